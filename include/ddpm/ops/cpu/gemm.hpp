// SPDX-License-Identifier: MIT
// Register-blocked matrix products, the inner loops of convolution and linear layers.
//
// RowProduct: rows of A, broadcast, times a panel of B; A is read in place through an offset per row, so an
// image is multiplied without being unrolled. OuterProduct: the sum over pixels of a column times a row, for
// weight gradients. DotProduct: as RowProduct for very few columns, with the vectors along the sum instead.
// A register tile is tile_rows rows by two vectors. It must be truly unrolled, or its sums spill: rows are
// expanded by index_sequence, columns are named sum0 and sum1.
#pragma once

#include <cstddef>
#include <cstring>
#include <utility>

#include <ddpm/ops/cpu/isa.hpp>

namespace ddpm::detail::cpu {

// y[target[i]] = scale * (init[sample[i]] + residual[target[i]] + sum over k of a[source[i] + k] * b[k]) for
// every row i. The sum runs over `runs` stretches of `run_length` contiguous elements of A, `run_stride`
// apart. The three tables are readable up to the next multiple of row_table_unit.
constexpr int row_table_unit = 12;  // a multiple of the height of every tile that is not the last
struct RowProduct {
  const float* a;
  const int* source;
  const int* target;
  const int* sample;
  int rows;
  int runs, run_length;
  std::ptrdiff_t run_stride;
  const float* b;  // [runs * run_length, panel], panel = 1 or 2 vectors, enough for `columns`
  const float*
      init;  // [samples, init_stride], readable to the panel's width; added last, off the critical path
  std::ptrdiff_t init_stride;
  const float* residual;  // or null
  float* y;
  std::ptrdiff_t y_stride;  // also of residual
  float scale;
  int columns;
};

// Tiles come in four heights, so that few rows do not cost as many as a full tile.
template <class V>
struct TileHeights {
  static constexpr int full = V::tile_rows, most = full * 2 / 3, some = full / 3;
  static constexpr int of(int rows) { return rows > most ? full : rows > some ? most : rows > 1 ? some : 1; }
};

inline int tile_height(int rows) {
  return isa() == Isa::avx512 ? TileHeights<Vector16>::of(rows) : TileHeights<Vector8>::of(rows);
}

// The part of a tile that lies within the matrix.
struct TileExtent {
  int first, rows;
};

// The panel comes from an outer cache, whose own prefetching stops at the end of a page: so far ahead, in floats.
constexpr int panel_prefetch = 1024;

// sum[i][:] += row[i][k] * b[k][:] over k < length.
template <class V, bool wide, int... I>
[[gnu::always_inline]] inline void accumulate(const float* const (&row)[sizeof...(I)], int length,
                                              const float* b, typename V::type (&sum0)[sizeof...(I)],
                                              typename V::type (&sum1)[sizeof...(I)]) {
  constexpr int panel = wide ? 2 * V::width : V::width;
  for (int k = 0; k < length; ++k, b += panel) {
    for (int i = 0; i < panel; i += 16) __builtin_prefetch(b + panel_prefetch + i);
    const typename V::type b0 = vector_at<V>(b).value;
    if constexpr (wide) {
      const typename V::type b1 = vector_at<V>(b + V::width).value;
      ((sum0[I] += row[I][k] * b0, sum1[I] += row[I][k] * b1), ...);
    } else {
      ((sum0[I] += row[I][k] * b0), ...);
    }
  }
}

template <class V>
struct RowTile {
  using Vector = typename V::type;

  template <bool wide>
  [[gnu::always_inline]] static void store(const RowProduct& p, int i, Vector& sum0, Vector& sum1) {
    const std::ptrdiff_t at = p.target[i] * p.y_stride;
    if (p.residual) {
      sum0 += vector_at<V>(p.residual + at).value;
      if constexpr (wide) sum1 += vector_at<V>(p.residual + at + V::width).value;
    }
    const float* init = p.init + p.sample[i] * p.init_stride;
    vector_at<V>(p.y + at).value = (sum0 + vector_at<V>(init).value) * p.scale;
    if constexpr (wide)
      vector_at<V>(p.y + at + V::width).value = (sum1 + vector_at<V>(init + V::width).value) * p.scale;
  }

  // For the rim of the matrix, where a whole vector may not be read or written.
  static void store_part(const RowProduct& p, TileExtent extent, const float* sums, int panel) {
    for (int i = 0; i < extent.rows; ++i)
      for (int j = 0; j < p.columns; ++j) {
        const std::ptrdiff_t at = p.target[extent.first + i] * p.y_stride + j;
        const float init = p.init[p.sample[extent.first + i] * p.init_stride + j];
        p.y[at] = p.scale * (sums[i * panel + j] + init + (p.residual ? p.residual[at] : 0.0f));
      }
  }

  template <bool wide, int... I>
  [[gnu::always_inline]] static void run(const RowProduct& p, TileExtent extent,
                                         std::integer_sequence<int, I...>) {
    constexpr int height = sizeof...(I), panel = wide ? 2 * V::width : V::width;
    Vector sum0[height] = {}, sum1[height] = {};
    const float* b = p.b;
    for (int run = 0; run < p.runs; ++run) {
      const float* a = p.a + run * p.run_stride;
      const float* row[height] = {a + p.source[extent.first + I]...};
      accumulate<V, wide, I...>(row, p.run_length, b, sum0, sum1);
      b += p.run_length * panel;
    }
    if (extent.rows == height && p.columns == panel) {
      (store<wide>(p, extent.first + I, sum0[I], sum1[I]), ...);
    } else {
      alignas(64) float sums[height * panel];
      ((vector_at<V>(sums + I * panel).value = sum0[I]), ...);
      if constexpr (wide) ((vector_at<V>(sums + I * panel + V::width).value = sum1[I]), ...);
      store_part(p, extent, sums, panel);
    }
  }
};

// Rows times one panel.
template <bool wide>
struct RowProductLeaf {
  template <class V>
  [[gnu::always_inline]] static void run(const RowProduct& p) {
    using Heights = TileHeights<V>;
    for (int first = 0; first < p.rows; first += Heights::full) {
      const TileExtent extent{first, p.rows - first < Heights::full ? p.rows - first : Heights::full};
      const int height = Heights::of(extent.rows);
      if (height == Heights::full)
        RowTile<V>::template run<wide>(p, extent, std::make_integer_sequence<int, Heights::full>{});
      else if (height == Heights::most)
        RowTile<V>::template run<wide>(p, extent, std::make_integer_sequence<int, Heights::most>{});
      else if (height == Heights::some)
        RowTile<V>::template run<wide>(p, extent, std::make_integer_sequence<int, Heights::some>{});
      else
        RowTile<V>::template run<wide>(p, extent, std::make_integer_sequence<int, 1>{});
    }
  }
};

inline void row_product(const RowProduct& p) {
  if (p.columns > vector_width())
    run_leaf<RowProductLeaf<true>>(p);
  else
    run_leaf<RowProductLeaf<false>>(p);
}

// y = a * b, with whole panels of columns and nothing added: the short products of Winograd's algorithm,
// where the start and the end of a tile weigh more.
struct PanelProduct {
  const float* a;  // [rows, a_stride], readable (but not used) for row_table_unit rows more
  std::ptrdiff_t a_stride;
  int rows, depth;
  const float* b;  // [depth, panel]
  float* y;        // [rows, panel], and room for row_table_unit rows more
};

template <bool wide>
struct PanelProductLeaf {
  template <class V, int... I>
  [[gnu::always_inline]] static void tile(const PanelProduct& p, int first,
                                          std::integer_sequence<int, I...>) {
    constexpr int height = sizeof...(I), panel = wide ? 2 * V::width : V::width;
    typename V::type sum0[height] = {}, sum1[height] = {};
    const float* a = p.a + first * p.a_stride;
    const float* row[height] = {a + I * p.a_stride...};
    accumulate<V, wide, I...>(row, p.depth, p.b, sum0, sum1);
    float* y = p.y + std::ptrdiff_t{first} * panel;
    ((vector_at<V>(y + I * panel).value = sum0[I]), ...);
    if constexpr (wide) ((vector_at<V>(y + I * panel + V::width).value = sum1[I]), ...);
  }

  template <class V>
  [[gnu::always_inline]] static void run(const PanelProduct& p) {
    using Heights = TileHeights<V>;
    for (int first = 0; first < p.rows; first += Heights::full) {
      const int height = Heights::of(p.rows - first);
      if (height == Heights::full)
        tile<V>(p, first, std::make_integer_sequence<int, Heights::full>{});
      else if (height == Heights::most)
        tile<V>(p, first, std::make_integer_sequence<int, Heights::most>{});
      else if (height == Heights::some)
        tile<V>(p, first, std::make_integer_sequence<int, Heights::some>{});
      else
        tile<V>(p, first, std::make_integer_sequence<int, 1>{});
    }
  }
};

inline void panel_product(const PanelProduct& p, int panel) {
  if (panel > vector_width())
    run_leaf<PanelProductLeaf<true>>(p);
  else
    run_leaf<PanelProductLeaf<false>>(p);
}

// sum[t][i][j] = (or, unless is_first, +=) the sum over pixels of a[pixel][i] * b[pixel + tap t][j], with
// i < height, j < panel. Pixels come in `images` of `lines` of `line_length`.
struct OuterProduct {
  const float* a;  // pixel i at i * a_step
  std::ptrdiff_t a_step;
  const float*
      b;  // pixel (m, l, k) of tap t at tap_offset[t] + m * image_stride + l * line_stride + k * step
  std::ptrdiff_t image_stride, line_stride, step;
  int images, lines, line_length;
  const int* tap_offset;
  int taps;
  int height;  // one of TileHeights
  float* sum;  // [taps, height, panel]
  bool is_first;
};

template <class V, bool wide>
struct OuterTile {
  using Vector = typename V::type;

  [[gnu::always_inline]] static void put(const OuterProduct& p, float* to, const Vector& sum) {
    if (p.is_first)
      vector_at<V>(to).value = sum;
    else
      vector_at<V>(to).value += sum;
  }

  template <int... I>
  [[gnu::always_inline]] static void run(const OuterProduct& p, std::integer_sequence<int, I...>) {
    constexpr int height = sizeof...(I), panel = wide ? 2 * V::width : V::width;
    for (int tap = 0; tap < p.taps; ++tap) {
      float* to = p.sum + tap * height * panel;
      for (int i = 0; i < height * panel; i += V::width) __builtin_prefetch(to + i, 1);  // for put()
      Vector sum0[height] = {}, sum1[height] = {};
      const float* a = p.a;
      for (int image = 0; image < p.images; ++image)
        for (int line = 0; line < p.lines; ++line) {
          const float* b = p.b + p.tap_offset[tap] + image * p.image_stride + line * p.line_stride;
          for (int k = 0; k < p.line_length; ++k, a += p.a_step, b += p.step) {
            const Vector b0 = vector_at<V>(b).value;
            if constexpr (wide) {
              const Vector b1 = vector_at<V>(b + V::width).value;
              ((sum0[I] += a[I] * b0, sum1[I] += a[I] * b1), ...);
            } else {
              ((sum0[I] += a[I] * b0), ...);
            }
          }
        }
      (put(p, to + I * panel, sum0[I]), ...);
      if constexpr (wide) (put(p, to + I * panel + V::width, sum1[I]), ...);
    }
  }
};

template <bool wide>
struct OuterProductLeaf {
  template <class V>
  [[gnu::always_inline]] static void run(const OuterProduct& p) {
    using Heights = TileHeights<V>;
    if (p.height == Heights::full)
      OuterTile<V, wide>::run(p, std::make_integer_sequence<int, Heights::full>{});
    else if (p.height == Heights::most)
      OuterTile<V, wide>::run(p, std::make_integer_sequence<int, Heights::most>{});
    else if (p.height == Heights::some)
      OuterTile<V, wide>::run(p, std::make_integer_sequence<int, Heights::some>{});
    else
      OuterTile<V, wide>::run(p, std::make_integer_sequence<int, 1>{});
  }
};

inline void outer_product(const OuterProduct& p, int panel) {
  if (panel > vector_width())
    run_leaf<OuterProductLeaf<true>>(p);
  else
    run_leaf<OuterProductLeaf<false>>(p);
}

// A RowProduct whose B is [columns, runs * run_length] and whose run_length is a multiple of the vector
// width.
struct DotProductLeaf {
  static constexpr int rows_at_once = 4;

  template <class V>
  [[gnu::always_inline]] static float total(const typename V::type& sum) {
    alignas(64) float lanes[V::width];
    vector_at<V>(lanes).value = sum;
    typename Vector4::type four = vector_at<Vector4>(lanes).value;
    for (int i = 4; i < V::width; i += 4) four += vector_at<Vector4>(lanes + i).value;
    return (four[0] + four[1]) + (four[2] + four[3]);
  }

  template <class V, int... I>
  [[gnu::always_inline]] static void tile(const RowProduct& p, TileExtent extent, int column,
                                          std::integer_sequence<int, I...>) {
    using Vector = typename V::type;
    constexpr int height = sizeof...(I);
    Vector sum[height] = {};
    const float* b = p.b + std::ptrdiff_t{column} * p.runs * p.run_length;
    for (int run = 0; run < p.runs; ++run) {
      const float* a = p.a + run * p.run_stride;
      const float* row[height] = {a + p.source[extent.first + I]...};
      for (int k = 0; k < p.run_length; k += V::width, b += V::width) {
        const Vector b0 = vector_at<V>(b).value;
        ((sum[I] += vector_at<V>(row[I] + k).value * b0), ...);
      }
    }
    const float totals[height] = {total<V>(sum[I])...};
    for (int i = 0; i < extent.rows; ++i) {
      const int row = extent.first + i;
      const std::ptrdiff_t at = p.target[row] * p.y_stride + column;
      const float init = p.init[p.sample[row] * p.init_stride + column];
      p.y[at] = p.scale * (totals[i] + init + (p.residual ? p.residual[at] : 0.0f));
    }
  }

  template <class V>
  [[gnu::always_inline]] static void run(const RowProduct& p) {
    for (int first = 0; first < p.rows; first += rows_at_once) {
      const TileExtent extent{first, p.rows - first < rows_at_once ? p.rows - first : rows_at_once};
      for (int column = 0; column < p.columns; ++column)
        tile<V>(p, extent, column, std::make_integer_sequence<int, rows_at_once>{});
    }
  }
};

inline void dot_product(const RowProduct& p) { run_leaf<DotProductLeaf>(p); }

}  // namespace ddpm::detail::cpu
