// SPDX-License-Identifier: MIT
// The matrix products of attention, small, of operands that lie in memory as they are; and matrices copied, added up
// and transposed.
//
// C[rows, columns] = A B with A[i, k] = a[i * row_step + k * depth_step], broadcast, and rows of B and C
// contiguous. A register tile is some rows by up to three vectors, unrolled by templates so that no sum
// leaves its register.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include <ddpm/ops/cpu/simd.hpp>

namespace ddpm::detail::cpu {

// What becomes of the sums.
enum class TileStore {
  scaled,         // c = sum * factor[0]
  scaled_by_row,  // c = sum * factor[i]
  added           // c += sum
};

template <TileStore Store>
struct TileProduct {
  const float* a;
  std::ptrdiff_t row_step, depth_step;
  const float* b;  // [depth, columns], readable to the end of the last vector of every row
  std::ptrdiff_t b_stride;
  float* c;  // [rows, columns]; nothing beyond is written
  std::ptrdiff_t c_stride;
  const float* factor;
  int rows, columns, depth;

  template <class V>
  [[gnu::always_inline]] static void run(const TileProduct& p);
};

template <class V>
struct TileExtents {
  static constexpr int rows = V::width == 16 ? 8 : 4;
  static constexpr int columns = 3;
};

template <class V, int Rows, int Columns, TileStore Store>
struct Tile {
  using Rs = std::make_integer_sequence<int, Rows>;
  using Cs = std::make_integer_sequence<int, Columns>;

  Floats<V> sum[Rows * Columns];
  Floats<V> b[Columns];
  const float* a[Rows];

  template <int I, int... J>
  [[gnu::always_inline]] void multiply_row(std::ptrdiff_t at, std::integer_sequence<int, J...>) {
    const float factor = a[I][at];
    ((sum[I * Columns + J] += b[J] * factor), ...);
  }
  template <int... I, int... J>
  [[gnu::always_inline]] void multiply(const float* from, std::ptrdiff_t at, std::integer_sequence<int, I...>,
                                       std::integer_sequence<int, J...>) {
    (load(b[J], from + J * V::width), ...);
    (multiply_row<I>(at, Cs{}), ...);
  }

  // The rows beyond the last repeat it, and are not stored.
  template <int... I>
  [[gnu::always_inline]] void begin(const float* from, std::ptrdiff_t step, int rows,
                                    std::integer_sequence<int, I...>) {
    ((a[I] = from + (I < rows ? I : rows - 1) * step), ...);
  }

  [[gnu::always_inline]] static void put(float* to, const Floats<V>& v, float factor, int lanes) {
    Floats<V> out = v;
    if constexpr (Store != TileStore::added) out *= factor;
    if (lanes >= V::width) {
      if constexpr (Store == TileStore::added) {
        Floats<V> old;
        load(old, to);
        out += old;
      }
      store(to, out);
    } else {
      if constexpr (Store == TileStore::added) {
        Floats<V> old;
        load_first(old, to, lanes);
        out += old;
      }
      store_first(to, out, lanes);
    }
  }
  template <int I, int... J>
  [[gnu::always_inline]] void put_row(const TileProduct<Store>& p, int row, int column, int rows,
                                      std::integer_sequence<int, J...>) {
    if (I >= rows) return;
    float* to = p.c + (row + I) * p.c_stride + column;
    float factor = 1;
    if constexpr (Store == TileStore::scaled) factor = p.factor[0];
    if constexpr (Store == TileStore::scaled_by_row) factor = p.factor[row + I];
    (put(to + J * V::width, sum[I * Columns + J], factor, p.columns - column - J * V::width), ...);
  }
  template <int... I>
  [[gnu::always_inline]] void put_all(const TileProduct<Store>& p, int row, int column, int rows,
                                      std::integer_sequence<int, I...>) {
    (put_row<I>(p, row, column, rows, Cs{}), ...);
  }

  [[gnu::always_inline]] static void run(const TileProduct<Store>& p, int row, int column) {
    Tile tile = {};
    const int rows = p.rows - row < Rows ? p.rows - row : Rows;
    tile.begin(p.a + row * p.row_step, p.row_step, rows, Rs{});
    const float* from = p.b + column;
    std::ptrdiff_t at = 0;
    for (int k = 0; k < p.depth; ++k, at += p.depth_step, from += p.b_stride)
      tile.multiply(from, at, Rs{}, Cs{});
    tile.put_all(p, row, column, rows, Rs{});
  }

  // All rows, for the columns of one tile.
  [[gnu::always_inline]] static void run_columns(const TileProduct<Store>& p, int column) {
    int row = 0;
    for (; row + Rows <= p.rows; row += Rows) run(p, row, column);
    for (; row < p.rows; row += Rows / 2) Tile<V, Rows / 2, Columns, Store>::run(p, row, column);
  }
};

template <TileStore Store>
template <class V>
[[gnu::always_inline]] inline void TileProduct<Store>::run(const TileProduct& p) {
  constexpr int rows = TileExtents<V>::rows;
  int vectors = (p.columns + V::width - 1) / V::width;
  for (int column = 0; vectors > 0;) {
    const int taken = vectors >= 3 && vectors != 4 ? 3 : vectors >= 2 ? 2 : 1;
    if (taken == 3)
      Tile<V, rows, 3, Store>::run_columns(p, column);
    else if (taken == 2)
      Tile<V, rows, 2, Store>::run_columns(p, column);
    else
      Tile<V, rows, 1, Store>::run_columns(p, column);
    column += taken * V::width;
    vectors -= taken;
  }
}

// to[i * to_stride + j] = from[i * from_stride + j], or added to what is there.
template <bool Added>
struct MatrixLeaf {
  const float* from;  // [rows, columns]
  std::ptrdiff_t from_stride;
  float* to;
  std::ptrdiff_t to_stride;
  int rows, columns;

  template <class V>
  [[gnu::always_inline]] static void run(const MatrixLeaf& p) {
    for (int i = 0; i < p.rows; ++i) {
      const Row row{p.from + i * p.from_stride, p.to + i * p.to_stride};
      sweep<V>(row, p.columns);
    }
  }

 private:
  struct Row {
    const float* from;
    float* to;

    template <class V, class Lanes>
    [[gnu::always_inline]] void step(std::int64_t j, const Lanes& lanes) const {
      Floats<V> v;
      lanes.load(v, from + j);
      if constexpr (Added) {
        Floats<V> old;
        lanes.load(old, to + j);
        v += old;
      }
      lanes.store(to + j, v);
    }
  };
};

// to[j * to_stride + i] = factor * from[i * from_stride + j], or added to what is there.
template <bool Added>
struct TransposeLeaf {
  const float* from;  // [rows, columns]
  std::ptrdiff_t from_stride;
  float* to;  // [columns, rows]
  std::ptrdiff_t to_stride;
  int rows, columns;
  float factor = 1;

  template <class V>
  [[gnu::always_inline]] static void run(const TransposeLeaf& p) {
    int i = 0;
    for (; i + 4 <= p.rows; i += 4) {
      int j = 0;
      for (; j + 4 <= p.columns; j += 4) square(p, i, j);
      for (; j < p.columns; ++j)
        for (int k = i; k < i + 4; ++k) single(p, k, j);
    }
    for (; i < p.rows; ++i)
      for (int j = 0; j < p.columns; ++j) single(p, i, j);
  }

 private:
  [[gnu::always_inline]] static void single(const TransposeLeaf& p, int i, int j) {
    const float value = p.factor * p.from[i * p.from_stride + j];
    float& to = p.to[j * p.to_stride + i];
    to = Added ? to + value : value;
  }
  [[gnu::always_inline]] static void put(float* to, const Floats<Vector4>& v, float factor) {
    Floats<Vector4> out = v * factor;
    if constexpr (Added) {
      Floats<Vector4> old;
      load(old, to);
      out += old;
    }
    store(to, out);
  }
  [[gnu::always_inline]] static void square(const TransposeLeaf& p, int i, int j) {
    using F = Floats<Vector4>;
    const float* from = p.from + i * p.from_stride + j;
    F a, b, c, d;
    load(a, from);
    load(b, from + p.from_stride);
    load(c, from + 2 * p.from_stride);
    load(d, from + 3 * p.from_stride);
    const F ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    const F ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const F cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const F cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    float* to = p.to + j * p.to_stride + i;
    put(to, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5), p.factor);
    put(to + p.to_stride, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7), p.factor);
    put(to + 2 * p.to_stride, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5), p.factor);
    put(to + 3 * p.to_stride, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7), p.factor);
  }
};

}  // namespace ddpm::detail::cpu
