// SPDX-License-Identifier: MIT
// The linear maps of Winograd's convolution F(m x m, 3x3), vectorised along channels.
//
// Along one axis, m outputs of a 3-tap correlation are A^T [(G g) * (B^T d)] with m + 2 products instead of
// 3 m; in two dimensions every map is applied to columns, then to rows. B^T evaluates the polynomial of the
// input, and G that of the weights, at m + 1 points and infinity; A^T interpolates. Gradients use the
// transposes: dg = G^T [(B^T d) * (A dy)].
// Source: Lavin and Gray, "Fast algorithms for convolutional neural networks" (CVPR 2016).
#pragma once

#include <cstddef>
#include <utility>

#include <ddpm/ops/cpu/isa.hpp>

namespace ddpm::detail::cpu {

// Points 0, 1, -1, infinity. As exact as direct convolution.
struct WinogradF2 {
  static constexpr int outputs = 2;
  static constexpr int inputs = 4;

  struct Input {  // B^T
    static constexpr int in = 4, out = 4;
    template <class X>
    [[gnu::always_inline]] static void apply(const X (&d)[4], X (&o)[4]) {
      o[0] = d[0] - d[2];
      o[1] = d[1] + d[2];
      o[2] = d[2] - d[1];
      o[3] = d[3] - d[1];
    }
  };
  struct Output {  // A^T
    static constexpr int in = 4, out = 2;
    template <class X>
    [[gnu::always_inline]] static void apply(const X (&m)[4], X (&o)[2]) {
      o[0] = m[0] + m[1] + m[2];
      o[1] = m[1] - m[2] + m[3];
    }
  };
  struct OutputGradient {  // A
    static constexpr int in = 2, out = 4;
    template <class X>
    [[gnu::always_inline]] static void apply(const X (&d)[2], X (&o)[4]) {
      o[0] = d[0];
      o[1] = d[0] + d[1];
      o[2] = d[0] - d[1];
      o[3] = d[1];
    }
  };
  struct Weight {  // G
    static constexpr int in = 3, out = 4;
    template <class X>
    [[gnu::always_inline]] static void apply(const X (&g)[3], X (&o)[4]) {
      const X even = 0.5f * (g[0] + g[2]), odd = 0.5f * g[1];
      o[0] = g[0];
      o[1] = even + odd;
      o[2] = even - odd;
      o[3] = g[2];
    }
  };
  struct WeightGradient {  // G^T
    static constexpr int in = 4, out = 3;
    template <class X>
    [[gnu::always_inline]] static void apply(const X (&u)[4], X (&o)[3]) {
      const X sum = 0.5f * (u[1] + u[2]);
      o[0] = u[0] + sum;
      o[1] = 0.5f * (u[1] - u[2]);
      o[2] = sum + u[3];
    }
  };
};

// Points 0, p, -p, q, -q, infinity with p = sqrt(1/2), q = sqrt(2): the usual 1 and 2 lose 2.5 times as much
// to rounding (max error at 128 channels, relative to the largest output: 1.8e-6 against 4.5e-6).
struct WinogradF4 {
  static constexpr int outputs = 4;
  static constexpr int inputs = 6;
  static constexpr float p = 0.70710678f, q = 1.41421356f;  // p^2 = 1/2, q^2 = 2, p^3 = p/2, q^3 = 2q
  // Products of the differences of a point to the other finite ones: 1 at 0, -3/2 at +-p, 6 at +-q.
  static constexpr float scale_p = -2.0f / 3.0f, scale_q = 1.0f / 6.0f;

  struct Input {
    static constexpr int in = 6, out = 6;
    template <class X>
    [[gnu::always_inline]] static void apply(const X (&d)[6], X (&o)[6]) {
      const X even_p = d[4] - 2.0f * d[2], odd_p = p * (d[3] - 2.0f * d[1]);
      const X even_q = d[4] - 0.5f * d[2], odd_q = q * (d[3] - 0.5f * d[1]);
      o[0] = d[0] - 2.5f * d[2] + d[4];
      o[1] = even_p + odd_p;
      o[2] = even_p - odd_p;
      o[3] = even_q + odd_q;
      o[4] = even_q - odd_q;
      o[5] = d[1] - 2.5f * d[3] + d[5];
    }
  };
  struct Output {
    static constexpr int in = 6, out = 4;
    template <class X>
    [[gnu::always_inline]] static void apply(const X (&m)[6], X (&o)[4]) {
      const X even_p = m[1] + m[2], odd_p = p * (m[1] - m[2]);
      const X even_q = m[3] + m[4], odd_q = q * (m[3] - m[4]);
      o[0] = m[0] + even_p + even_q;
      o[1] = odd_p + odd_q;
      o[2] = 0.5f * even_p + 2.0f * even_q;
      o[3] = 0.5f * odd_p + 2.0f * odd_q + m[5];
    }
  };
  struct OutputGradient {
    static constexpr int in = 4, out = 6;
    template <class X>
    [[gnu::always_inline]] static void apply(const X (&d)[4], X (&o)[6]) {
      const X even_p = d[0] + 0.5f * d[2], odd_p = p * (d[1] + 0.5f * d[3]);
      const X even_q = d[0] + 2.0f * d[2], odd_q = q * (d[1] + 2.0f * d[3]);
      o[0] = d[0];
      o[1] = even_p + odd_p;
      o[2] = even_p - odd_p;
      o[3] = even_q + odd_q;
      o[4] = even_q - odd_q;
      o[5] = d[3];
    }
  };
  struct Weight {
    static constexpr int in = 3, out = 6;
    template <class X>
    [[gnu::always_inline]] static void apply(const X (&g)[3], X (&o)[6]) {
      const X even_p = scale_p * (g[0] + 0.5f * g[2]), odd_p = (scale_p * p) * g[1];
      const X even_q = scale_q * (g[0] + 2.0f * g[2]), odd_q = (scale_q * q) * g[1];
      o[0] = g[0];
      o[1] = even_p + odd_p;
      o[2] = even_p - odd_p;
      o[3] = even_q + odd_q;
      o[4] = even_q - odd_q;
      o[5] = g[2];
    }
  };
  struct WeightGradient {
    static constexpr int in = 6, out = 3;
    template <class X>
    [[gnu::always_inline]] static void apply(const X (&u)[6], X (&o)[3]) {
      const X even_p = scale_p * (u[1] + u[2]), odd_p = (scale_p * p) * (u[1] - u[2]);
      const X even_q = scale_q * (u[3] + u[4]), odd_q = (scale_q * q) * (u[3] - u[4]);
      o[0] = u[0] + even_p + even_q;
      o[1] = odd_p + odd_q;
      o[2] = 0.5f * even_p + 2.0f * even_q + u[5];
    }
  };
};

// A map applied along both axes. Expanded by index_sequence, so that all of it stays in registers.
template <class V, class Map>
struct Separable {
  using Vector = typename V::type;
  static constexpr int in = Map::in, out = Map::out;

  // result = Map X Map^T, where X[r][s] lies at from + r * row_stride + s * column_stride.
  [[gnu::always_inline]] static void run(const float* from, std::ptrdiff_t row_stride,
                                         std::ptrdiff_t column_stride, Vector (&result)[out][out]) {
    Vector half[in][out];
    columns(from, row_stride, column_stride, half, std::make_integer_sequence<int, in>{});
    rows(half, result, std::make_integer_sequence<int, out>{});
  }

 private:
  template <int... I>
  [[gnu::always_inline]] static void column(const float* from, std::ptrdiff_t row_stride, Vector (&to)[out],
                                            std::integer_sequence<int, I...>) {
    const Vector x[in] = {vector_at<V>(from + I * row_stride).value...};
    Map::apply(x, to);
  }
  template <int... S>
  [[gnu::always_inline]] static void columns(const float* from, std::ptrdiff_t row_stride,
                                             std::ptrdiff_t column_stride, Vector (&half)[in][out],
                                             std::integer_sequence<int, S...>) {
    (column(from + S * column_stride, row_stride, half[S], std::make_integer_sequence<int, in>{}), ...);
  }
  template <int r, int... S>
  [[gnu::always_inline]] static void row(const Vector (&half)[in][out], Vector (&to)[out],
                                         std::integer_sequence<int, S...>) {
    const Vector x[in] = {half[S][r]...};
    Map::apply(x, to);
  }
  template <int... R>
  [[gnu::always_inline]] static void rows(const Vector (&half)[in][out], Vector (&result)[out][out],
                                          std::integer_sequence<int, R...>) {
    (row<R>(half, result[R], std::make_integer_sequence<int, in>{}), ...);
  }
};

// Transforms tiles of `depth` channels. Element (r, s) of tile t is at from + offset[t] + r * row_stride +
// s * column_stride; coefficient k of it goes to `to` + t * tile_stride + k * coefficient_stride.
struct TileTransform {
  const float* from;
  const int* offset;
  std::ptrdiff_t row_stride, column_stride;
  float* to;
  std::ptrdiff_t tile_stride, coefficient_stride;
  int tiles, depth;  // depth: a multiple of the vector width
};

template <class Map>
struct TileTransformLeaf {
  static constexpr int out = Map::out;

  template <class V, int... K>
  [[gnu::always_inline]] static void store(const typename V::type (&result)[out][out], float* to,
                                           std::ptrdiff_t stride, std::integer_sequence<int, K...>) {
    ((vector_at<V>(to + K * stride).value = result[K / out][K % out]), ...);
  }

  template <class V>
  [[gnu::always_inline]] static void run(const TileTransform& p) {
    for (int tile = 0; tile < p.tiles; ++tile)
      for (int c = 0; c < p.depth; c += V::width) {
        typename V::type result[out][out];
        Separable<V, Map>::run(p.from + p.offset[tile] + c, p.row_stride, p.column_stride, result);
        store<V>(result, p.to + tile * p.tile_stride + c, p.coefficient_stride,
                 std::make_integer_sequence<int, out * out>{});
      }
  }
};

// Transforms products back and writes pixels: y = scale * (init + residual + pixel). A tile at the border of
// the image writes only the rows and columns that exist.
struct TileOutput {
  const float* from;  // coefficient k of tile t at t * panel + k * coefficient_stride
  std::ptrdiff_t coefficient_stride;
  int tiles, panel, columns;  // panel: floats per tile, of which `columns` are outputs
  const int* target;          // pixel of y of a tile's first row and column
  const int* extent;          // rows of the tile that exist, times 8, plus columns that exist
  const int* sample;
  std::ptrdiff_t line;  // pixels in a row of the image
  const float* init;
  std::ptrdiff_t init_stride;
  const float* residual;  // or null
  float* y;
  std::ptrdiff_t y_stride;  // also of residual
  float scale;
};

template <class F>
struct TileOutputLeaf {
  static constexpr int m = F::outputs;

  template <class V>
  [[gnu::always_inline]] static void store(const TileOutput& p, std::ptrdiff_t at, int column,
                                           typename V::type& sum) {
    if (column + V::width <= p.columns) {
      if (p.residual) sum += vector_at<V>(p.residual + at).value;
      vector_at<V>(p.y + at).value = sum * p.scale;
      return;
    }
    alignas(64) float part[V::width];
    vector_at<V>(part).value = sum;
    for (int j = 0; j < p.columns - column; ++j)
      p.y[at + j] = p.scale * (part[j] + (p.residual ? p.residual[at + j] : 0.0f));
  }

  template <class V, int... I>
  [[gnu::always_inline]] static void tile(const TileOutput& p, int tile, int column,
                                          std::integer_sequence<int, I...>) {
    typename V::type result[m][m];
    Separable<V, typename F::Output>::run(p.from + tile * p.panel + column, F::inputs * p.coefficient_stride,
                                          p.coefficient_stride, result);
    const typename V::type init = vector_at<V>(p.init + p.sample[tile] * p.init_stride + column).value;
    ((result[I / m][I % m] += init), ...);
    const int rows = p.extent[tile] / 8, columns = p.extent[tile] % 8;
    const std::ptrdiff_t first = p.target[tile];
    ((I / m < rows && I % m < columns
          ? store<V>(p, (first + I / m * p.line + I % m) * p.y_stride + column, column, result[I / m][I % m])
          : void()),
     ...);
  }

  template <class V>
  [[gnu::always_inline]] static void run(const TileOutput& p) {
    for (int t = 0; t < p.tiles; ++t)
      for (int column = 0; column < p.columns; column += V::width)
        tile<V>(p, t, column, std::make_integer_sequence<int, m * m>{});
  }
};

}  // namespace ddpm::detail::cpu
