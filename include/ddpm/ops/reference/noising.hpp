// SPDX-License-Identifier: MIT
// Forward noising by plain loops. Math and parameters: ddpm/ops/noising.hpp.
#pragma once

#include <ddpm/ops/noising.hpp>

namespace ddpm {

template <class T>
void launch(const Reference&, const Noising<T>& p) {
  const std::int64_t per_sample = std::int64_t{p.h} * p.w * p.c;
  for (int n = 0; n < p.n; ++n) {
    RandomPosition position = p.position;
    position.sample += static_cast<std::uint64_t>(n);
    const bool mirrored = p.flip && draw_flip(p.position, n);
    const double signal = static_cast<double>(p.signal[p.t[n]]), sigma = static_cast<double>(p.sigma[p.t[n]]);
    for (std::int64_t i = 0; i < per_sample; ++i) {
      const std::int64_t column = i / p.c % p.w;
      const std::int64_t from = n * per_sample + (mirrored ? i + (p.w - 1 - 2 * column) * p.c : i);
      const std::int64_t to = n * per_sample + i;
      const double x0 = p.pixels ? p.pixels[from] / 127.5 - 1 : static_cast<double>(p.x0[from]);
      const double eps =
          p.noise ? static_cast<double>(p.noise[to])
                  : static_cast<double>(
                        normals(random_words(position, static_cast<std::uint32_t>(i / 4))).value[i % 4]);
      const auto xt = static_cast<Accumulator<T>>(signal * x0 + sigma * eps);
      if (p.xt) p.xt[to] = xt;
      if (p.model_input) p.model_input[to] = static_cast<T>(xt);
      if (p.target)
        p.target[to] = static_cast<Accumulator<T>>(prediction_target(p.prediction, x0, eps, signal, sigma));
    }
  }
}

inline void launch(const Reference&, const DrawTimesteps& p) {
  for (int n = 0; n < p.n; ++n) p.t[n] = draw_timestep(p.position, n, p.steps);
}

}  // namespace ddpm
