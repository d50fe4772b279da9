// SPDX-License-Identifier: MIT
// Reductions in a fixed order. Math and parameters: ddpm/ops/reduce.hpp.
#pragma once

#include <algorithm>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/cpu/simd.hpp>
#include <ddpm/ops/reduce.hpp>

namespace ddpm {

namespace detail::cpu {

// out[c] = the sum over rows of x[row, c], `runs` of rows each summed alone.
struct ColumnSumsLeaf {
  const float* x;
  std::int64_t rows, stride;
  float* out;
  int columns;

  template <class V>
  [[gnu::always_inline]] static void run(const ColumnSumsLeaf& p) {
    sweep<V>(p, p.columns);
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t c, const Lanes& lanes) const {
    constexpr std::int64_t run_length = 32;
    Floats<V> total{};
    for (std::int64_t first = 0; first < rows; first += run_length) {
      Floats<V> sum{};
      const std::int64_t last = first + run_length < rows ? first + run_length : rows;
      for (std::int64_t row = first; row < last; ++row) {
        Floats<V> v;
        lanes.load(v, x + row * stride + c);
        sum += v;
      }
      total += sum;
    }
    lanes.store(out + c, total);
  }
};

constexpr std::int64_t squares_chunk = 4096;

struct SquaresLeaf {
  const float* x;
  std::int64_t count;
  double* sum;

  template <class V>
  [[gnu::always_inline]] static void run(const SquaresLeaf& p) {
    Chunk<V> chunk{p.x, {}};
    const std::int64_t stride = 4 * V::width;
    std::int64_t i = 0;
    for (; i + stride <= p.count; i += stride)
      for (int k = 0; k < 4; ++k) {
        Floats<V> v;
        load(v, p.x + i + k * V::width);
        chunk.squares[k] += v * v;
      }
    chunk.x += i;
    sweep<V>(chunk, p.count - i);
    *p.sum = 0;
    for (const Floats<V>& part : chunk.squares) *p.sum += sum_of_lanes(part);
  }

 private:
  template <class Vector>
  struct Chunk {
    const float* x;
    Floats<Vector> squares[4];

    template <class V, class Lanes>
    [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) {
      Floats<V> v;
      lanes.load(v, x + i);
      squares[0] += v * v;
    }
  };
};

// to[c] += the sum over n of parts[n, c], in order and in double.
inline void add_column_sums(const float* parts, int n, std::int64_t stride, int columns, float* to) {
  parallel_ranges(columns, 256, [&](std::int64_t first, std::int64_t last) {
    double sum[256] = {};
    for (int row = 0; row < n; ++row)
      for (std::int64_t c = first; c < last; ++c)
        sum[c - first] += static_cast<double>(parts[row * stride + c]);
    for (std::int64_t c = first; c < last; ++c)
      to[c] = static_cast<float>(static_cast<double>(to[c]) + sum[c - first]);
  });
}

// dbias[c] += the sum over rows of dy[row, c].
inline void add_bias_gradient(const float* dy, std::int64_t rows, int c, float* dbias) {
  constexpr std::int64_t rows_at_once = 256;
  struct PartSums {};
  const std::int64_t parts = (rows + rows_at_once - 1) / rows_at_once;
  float* sums = thread_scratch<PartSums>(static_cast<std::size_t>(parts) * static_cast<std::size_t>(c));
  parallel_for(parts, [&](std::int64_t part) {
    const std::int64_t first = part * rows_at_once;
    run_leaf<ColumnSumsLeaf>(
        ColumnSumsLeaf{dy + first * c, std::min(rows_at_once, rows - first), c, sums + part * c, c});
  });
  add_column_sums(sums, static_cast<int>(parts), c, c, dbias);
}

}  // namespace detail::cpu

inline void launch(const Cpu&, const SquaredNorm<float>& p) {
  using namespace detail::cpu;
  const std::int64_t chunks = (p.count + squares_chunk - 1) / squares_chunk;
  struct ChunkSums {};
  double* sums = thread_scratch<ChunkSums, double>(static_cast<std::size_t>(chunks));
  parallel_ranges(chunks, 4, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i)
      run_leaf<SquaresLeaf>(SquaresLeaf{p.x + i * squares_chunk,
                                        std::min(squares_chunk, p.count - i * squares_chunk), sums + i});
  });
  double sum = 0;
  for (std::int64_t i = 0; i < chunks; ++i) sum += sums[i];
  *p.out = static_cast<float>(sum);
}

}  // namespace ddpm
