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

// y = exp(x - largest), summed up.
struct ExponentialsOfRow {
  const float* x;
  float* y;
  float largest;
  double sum = 0;

  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) {
    Floats<V> v;
    lanes.load(v, x + i);
    exp_lanes<V>(v, v - largest);
    lanes.store(y + i, v);
    lanes.load(v, y + i);  // zeros the lanes beyond the row
    sum += sum_of_lanes(v);
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
      float largest = x[0];
      for (int i = 1; i < p.cols; ++i) largest = largest < x[i] ? x[i] : largest;
      ExponentialsOfRow exponentials{x, y, largest};
      sweep<V>(exponentials, p.cols);
      const ScaleRow scale{y, static_cast<float>(1 / exponentials.sum)};
      sweep<V>(scale, p.cols);
    }
  }
};

struct DotOfRow {
  const float* y;
  const float* dy;
  double sum = 0;

  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) {
    Floats<V> a, b;
    lanes.load(a, y + i);
    lanes.load(b, dy + i);
    a *= b;
    sum += sum_of_lanes(a);
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
      DotOfRow dot{p.y + at, p.dy + at};
      sweep<V>(dot, p.cols);
      const SoftmaxBackwardRow out{p.y + at, p.dy + at, p.dx + at, static_cast<float>(dot.sum)};
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
