// SPDX-License-Identifier: MIT
// Forward noising by chunks of a sample. Math and parameters: ddpm/ops/noising.hpp.
#pragma once

#include <algorithm>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/cpu/noise.hpp>
#include <ddpm/ops/noising.hpp>

namespace ddpm {

namespace detail::cpu {

// xt = signal x0 + sigma eps; target = target_x0 x0 + target_eps eps.
struct NoisingLeaf {
  const float* x0;
  const float* eps;
  float* xt;           // or null
  float* model_input;  // or null
  float* target;       // or null
  float signal, sigma, target_x0, target_eps;
  std::int64_t count;

  template <class V>
  [[gnu::always_inline]] static void run(const NoisingLeaf& p) {
    sweep<V>(p, p.count);
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) const {
    Floats<V> x, e, y;
    lanes.load(x, x0 + i);
    lanes.load(e, eps + i);
    y = x * signal + e * sigma;
    if (xt != nullptr) lanes.store(xt + i, y);
    if (model_input != nullptr) lanes.store(model_input + i, y);
    if (target == nullptr) return;
    y = x * target_x0 + e * target_eps;
    lanes.store(target + i, y);
  }
};

// x0 of elements [first, first + count) of sample n, mirrored left to right or not.
inline void read_images(const Noising<float>& p, int n, bool mirrored, std::int64_t first, std::int64_t count,
                        float* out) {
  const std::int64_t sample = std::int64_t{n} * p.h * p.w * p.c;
  std::int64_t from = sample + first, run = count;
  for (std::int64_t i = 0; i < count; i += run) {
    if (mirrored) {  // pixel by pixel
      const std::int64_t at = first + i, channel = at % p.c, column = at / p.c % p.w;
      from = sample + at + (p.w - 1 - 2 * column) * p.c;
      run = std::min(p.c - channel, count - i);
    }
    if (p.pixels)
      for (std::int64_t k = 0; k < run; ++k)
        out[i + k] = (static_cast<float>(p.pixels[from + k]) - 127.5f) * (1 / 127.5f);
    else
      for (std::int64_t k = 0; k < run; ++k) out[i + k] = p.x0[from + k];
  }
}

}  // namespace detail::cpu

inline void launch(const Cpu&, const Noising<float>& p) {
  using namespace detail::cpu;
  const std::int64_t per_sample = std::int64_t{p.h} * p.w * p.c;
  for_each_noise_chunk(p.n, per_sample, [&](int n, std::int64_t first, std::int64_t count) {
    alignas(64) float image[noise_chunk], noise[noise_chunk];
    const std::int64_t at = n * per_sample + first;
    const bool mirrored = p.flip && draw_flip(p.position, n);
    const bool in_place = !mirrored && !p.pixels;
    if (!in_place) read_images(p, n, mirrored, first, count, image);
    RandomPosition position = p.position;
    position.sample += static_cast<std::uint64_t>(n);
    if (!p.noise) draw_normals(position, first, count, noise);
    const float signal = p.signal[p.t[n]], sigma = p.sigma[p.t[n]];
    const bool v = p.prediction == Prediction::v;
    run_leaf<NoisingLeaf>(NoisingLeaf{
        in_place ? p.x0 + at : image, p.noise ? p.noise + at : noise, p.xt ? p.xt + at : nullptr,
        p.model_input ? p.model_input + at : nullptr, p.target ? p.target + at : nullptr, signal, sigma,
        v                                    ? -sigma
        : p.prediction == Prediction::sample ? 1.0f
                                             : 0.0f,
        v                                     ? signal
        : p.prediction == Prediction::epsilon ? 1.0f
                                              : 0.0f,
        count});
  });
}

inline void launch(const Cpu&, const DrawTimesteps& p) {
  for (int n = 0; n < p.n; ++n) p.t[n] = draw_timestep(p.position, n, p.steps);
}

}  // namespace ddpm
