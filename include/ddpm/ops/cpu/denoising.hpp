// SPDX-License-Identifier: MIT
// The reverse step by chunks of a sample. Math and parameters: ddpm/ops/denoising.hpp.
#pragma once

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/cpu/noise.hpp>
#include <ddpm/ops/denoising.hpp>

namespace ddpm {

namespace detail::cpu {

struct DenoisingLeaf {
  DenoisingCoefficients<float> k;
  float clip;
  float* x;
  const float* m;
  const float* z;      // or null
  float* x0;           // or null
  float* model_input;  // or null
  std::int64_t count;

  template <class V>
  [[gnu::always_inline]] static void run(const DenoisingLeaf& p) {
    sweep<V>(p, p.count);
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) const {
    Floats<V> a, b, image, next, lower, upper;
    broadcast(lower, -clip);
    broadcast(upper, clip);
    lanes.load(a, x + i);
    lanes.load(b, m + i);
    image = a * k.x0_from_x + b * k.x0_from_m;
    image = image < lower ? lower : image;
    image = image > upper ? upper : image;
    next = image * k.x_from_x0 + a * k.x_from_x + b * k.x_from_m;
    if (z != nullptr) {
      Floats<V> noise;
      lanes.load(noise, z + i);
      next += noise * k.sigma;
    }
    lanes.store(x + i, next);
    if (x0 != nullptr) lanes.store(x0 + i, image);
    if (model_input != nullptr) lanes.store(model_input + i, next);
  }
};

}  // namespace detail::cpu

inline void launch(const Cpu&, const Denoising<float>& p) {
  using namespace detail::cpu;
  const DenoisingCoefficients<float>& k = p.table[*p.step];
  for_each_noise_chunk(p.n, p.per_sample, [&](int n, std::int64_t first, std::int64_t count) {
    alignas(64) float drawn[noise_chunk];
    const std::int64_t at = n * p.per_sample + first;
    const float* noise = nullptr;
    if (k.sigma != 0 && p.noise) noise = p.noise + at;
    if (k.sigma != 0 && !p.noise) {
      RandomPosition position = p.position;
      position.sample += static_cast<std::uint64_t>(n);
      position.step = static_cast<std::uint32_t>(*p.step);
      draw_normals(position, first, count, drawn);
      noise = drawn;
    }
    run_leaf<DenoisingLeaf>(DenoisingLeaf{k, p.clip, p.x + at, p.model_output + at, noise,
                                          p.x0 ? p.x0 + at : nullptr,
                                          p.model_input ? p.model_input + at : nullptr, count});
  });
}

inline void launch(const Cpu&, const BeginStep<float>& p) {
  ++*p.step;
  for (int n = 0; n < p.n; ++n) p.t[n] = p.table[*p.step].t;
}

inline void launch(const Cpu&, const FillNormal<float>& p) {
  using namespace detail::cpu;
  for_each_noise_chunk(p.n, p.per_sample, [&](int n, std::int64_t first, std::int64_t count) {
    alignas(64) float drawn[noise_chunk];
    RandomPosition position = p.position;
    position.sample += static_cast<std::uint64_t>(n);
    draw_normals(position, first, count, drawn);
    std::memcpy(p.x + n * p.per_sample + first, drawn, static_cast<std::size_t>(count) * sizeof(float));
  });
}

}  // namespace ddpm
