// SPDX-License-Identifier: MIT
// SiLU and softmax, vectorised. Math and parameters: ddpm/ops/activation.hpp.
#pragma once

#include <algorithm>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/activation.hpp>
#include <ddpm/ops/cpu/simd.hpp>

namespace ddpm {

namespace detail::cpu {

struct SiluLeaf {
  const float* x;
  float* y;
  std::int64_t count;

  template <class V>
  [[gnu::always_inline]] static void run(const SiluLeaf& p) {
    sweep<V>(p, p.count);
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) const {
    Floats<V> a, b;
    lanes.load(a, x + i);
    silu_lanes<V>(b, a);
    lanes.store(y + i, b);
  }
};

struct SiluBackwardLeaf {
  const float* x;
  const float* dy;
  float* dx;
  std::int64_t count;

  template <class V>
  [[gnu::always_inline]] static void run(const SiluBackwardLeaf& p) {
    sweep<V>(p, p.count);
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) const {
    Floats<V> a, slope, d;
    lanes.load(a, x + i);
    lanes.load(d, dy + i);
    silu_slope_lanes<V>(slope, a);
    d *= slope;
    lanes.store(dx + i, d);
  }
};

// The largest of a row.
template <class V>
[[gnu::always_inline]] inline float largest_of_row(const float* x, int cols) {
  float largest = x[0];
  int i = 0;
  if (cols >= V::width) {
    Floats<V> most, v;
    load(most, x);
    for (i = V::width; i + V::width <= cols; i += V::width) {
      load(v, x + i);
      most = v > most ? v : most;
    }
    float lane[V::width];
    store(lane, most);
    for (const float value : lane) largest = largest < value ? value : largest;
  }
  for (; i < cols; ++i) largest = largest < x[i] ? x[i] : largest;
  return largest;
}

// Columns whose sum is kept in float.
constexpr int softmax_run = 1024;

// y = exp(x - largest), summed up.
template <class V>
struct ExponentialsOfRow {
  const float* x;
  float* y;
  float largest;
  Floats<V> sum;

  template <class, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) {
    Floats<V> v;
    lanes.load(v, x + i);
    exp_lanes<V>(v, v - largest);
    lanes.store(y + i, v);
    lanes.load(v, y + i);  // zeros the lanes beyond the row
    sum += v;
  }
};

struct ScaleRow {
  float* y;
  float factor;

  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) const {
    Floats<V> v;
    lanes.load(v, y + i);
    v *= factor;
    lanes.store(y + i, v);
  }
};

struct SoftmaxLeaf {
  const float* x;
  float* y;
  std::int64_t rows;
  int cols;

  template <class V>
  [[gnu::always_inline]] static void run(const SoftmaxLeaf& p) {
    for (std::int64_t row = 0; row < p.rows; ++row) {
      const float* x = p.x + row * p.cols;
      float* y = p.y + row * p.cols;
      const float largest = largest_of_row<V>(x, p.cols);
      double sum = 0;
      for (int first = 0; first < p.cols; first += softmax_run) {
        ExponentialsOfRow<V> run{x + first, y + first, largest, Floats<V>{}};
        sweep<V>(run, p.cols - first < softmax_run ? p.cols - first : softmax_run);
        sum += sum_of_lanes(run.sum);
      }
      const ScaleRow scale{y, static_cast<float>(1 / sum)};
      sweep<V>(scale, p.cols);
    }
  }
};

template <class V>
struct DotOfRow {
  const float* y;
  const float* dy;
  Floats<V> sum;

  template <class, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) {
    Floats<V> a, b;
    lanes.load(a, y + i);
    lanes.load(b, dy + i);
    sum += a * b;
  }
};

struct SoftmaxBackwardRow {
  const float* y;
  const float* dy;
  float* dx;
  float dot;

  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) const {
    Floats<V> a, b;
    lanes.load(a, y + i);
    lanes.load(b, dy + i);
    a *= b - dot;
    lanes.store(dx + i, a);
  }
};

struct SoftmaxBackwardLeaf {
  const float* y;
  const float* dy;
  float* dx;
  std::int64_t rows;
  int cols;

  template <class V>
  [[gnu::always_inline]] static void run(const SoftmaxBackwardLeaf& p) {
    for (std::int64_t row = 0; row < p.rows; ++row) {
      const std::int64_t at = row * p.cols;
      double dot = 0;
      for (int first = 0; first < p.cols; first += softmax_run) {
        DotOfRow<V> run{p.y + at + first, p.dy + at + first, Floats<V>{}};
        sweep<V>(run, p.cols - first < softmax_run ? p.cols - first : softmax_run);
        dot += sum_of_lanes(run.sum);
      }
      const SoftmaxBackwardRow out{p.y + at, p.dy + at, p.dx + at, static_cast<float>(dot)};
      sweep<V>(out, p.cols);
    }
  }
};

// Rows per task.
inline std::int64_t softmax_grain(int cols) {
  return std::max<std::int64_t>(1, pointwise_grain / std::max(cols, 1));
}

}  // namespace detail::cpu

inline void launch(const Cpu&, const SiluForward<float>& p) {
  parallel_ranges(p.count, detail::cpu::pointwise_grain, [&](std::int64_t first, std::int64_t last) {
    detail::cpu::run_leaf<detail::cpu::SiluLeaf>(
        detail::cpu::SiluLeaf{p.x + first, p.y + first, last - first});
  });
}

inline void launch(const Cpu&, const SiluBackward<float>& p) {
  parallel_ranges(p.count, detail::cpu::pointwise_grain, [&](std::int64_t first, std::int64_t last) {
    detail::cpu::run_leaf<detail::cpu::SiluBackwardLeaf>(
        detail::cpu::SiluBackwardLeaf{p.x + first, p.dy + first, p.dx + first, last - first});
  });
}

inline void launch(const Cpu&, const SoftmaxForward<float>& p) {
  if (p.cols == 0) return;
  const std::int64_t grain = detail::cpu::softmax_grain(p.cols);
  parallel_ranges(p.rows, grain, [&](std::int64_t first, std::int64_t last) {
    detail::cpu::run_leaf<detail::cpu::SoftmaxLeaf>(
        detail::cpu::SoftmaxLeaf{p.x + first * p.cols, p.y + first * p.cols, last - first, p.cols});
  });
}

inline void launch(const Cpu&, const SoftmaxBackward<float>& p) {
  const std::int64_t grain = detail::cpu::softmax_grain(p.cols);
  parallel_ranges(p.rows, grain, [&](std::int64_t first, std::int64_t last) {
    const std::int64_t at = first * p.cols;
    detail::cpu::run_leaf<detail::cpu::SoftmaxBackwardLeaf>(
        detail::cpu::SoftmaxBackwardLeaf{p.y + at, p.dy + at, p.dx + at, last - first, p.cols});
  });
}

}  // namespace ddpm
