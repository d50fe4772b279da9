// SPDX-License-Identifier: MIT
// Upsampling, row by row. Math and parameters: ddpm/ops/resample.hpp.
#pragma once

#include <algorithm>
#include <cstring>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/cpu/simd.hpp>
#include <ddpm/ops/resample.hpp>

namespace ddpm {

namespace detail::cpu {

// One row of small pixels: each doubled, or the four below it summed.
struct UpsampleRowLeaf {
  const float* x;  // [W, C]
  float* y;        // [2 W, C]
  int w, c;

  template <class V>
  [[gnu::always_inline]] static void run(const UpsampleRowLeaf& p) {
    UpsampleRowLeaf pixel = p;
    for (int j = 0; j < p.w; ++j) {
      sweep<V>(pixel, p.c);
      pixel.x += p.c;
      pixel.y += 2 * p.c;
    }
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) const {
    Floats<V> v;
    lanes.load(v, x + i);
    lanes.store(y + i, v);
    lanes.store(y + c + i, v);
  }
};

struct UpsampleBackwardRowLeaf {
  const float* dy;  // [2, 2 W, C]
  float* dx;        // [W, C]
  int w, c;

  template <class V>
  [[gnu::always_inline]] static void run(const UpsampleBackwardRowLeaf& p) {
    UpsampleBackwardRowLeaf pixel = p;
    for (int j = 0; j < p.w; ++j) {
      sweep<V>(pixel, p.c);
      pixel.dy += 2 * p.c;
      pixel.dx += p.c;
    }
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) const {
    const float* below = dy + std::int64_t{2} * w * c;
    Floats<V> v[4];
    lanes.load(v[0], dy + i);
    lanes.load(v[1], dy + c + i);
    lanes.load(v[2], below + i);
    lanes.load(v[3], below + c + i);
    v[0] = (v[0] + v[1]) + (v[2] + v[3]);
    lanes.store(dx + i, v[0]);
  }
};

// Small rows per task.
inline std::int64_t resample_grain(int w, int c) {
  return std::max<std::int64_t>(1, pointwise_grain / std::max<std::int64_t>(1, std::int64_t{w} * c));
}

}  // namespace detail::cpu

inline void launch(const Cpu&, const UpsampleForward<float>& p) {
  const std::int64_t row = std::int64_t{p.w} * p.c;
  if (row == 0) return;
  parallel_ranges(std::int64_t{p.n} * p.h, detail::cpu::resample_grain(p.w, p.c),
                  [&](std::int64_t first, std::int64_t last) {
                    for (std::int64_t i = first; i < last; ++i) {
                      float* y = p.y + i * 4 * row;
                      detail::cpu::run_leaf<detail::cpu::UpsampleRowLeaf>(
                          detail::cpu::UpsampleRowLeaf{p.x + i * row, y, p.w, p.c});
                      std::memcpy(y + 2 * row, y, static_cast<std::size_t>(2 * row) * sizeof(float));
                    }
                  });
}

inline void launch(const Cpu&, const UpsampleBackward<float>& p) {
  const std::int64_t row = std::int64_t{p.w} * p.c;
  parallel_ranges(std::int64_t{p.n} * p.h, detail::cpu::resample_grain(p.w, p.c),
                  [&](std::int64_t first, std::int64_t last) {
                    for (std::int64_t i = first; i < last; ++i)
                      detail::cpu::run_leaf<detail::cpu::UpsampleBackwardRowLeaf>(
                          detail::cpu::UpsampleBackwardRowLeaf{p.dy + i * 4 * row, p.dx + i * row, p.w, p.c});
                  });
}

}  // namespace ddpm
