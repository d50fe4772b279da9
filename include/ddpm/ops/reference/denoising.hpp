// SPDX-License-Identifier: MIT
// The reverse step by plain loops. Math and parameters: ddpm/ops/denoising.hpp.
#pragma once

#include <algorithm>

#include <ddpm/ops/denoising.hpp>

namespace ddpm {

namespace detail::reference {

inline double normal_at(RandomPosition position, int n, std::int64_t i) {
  position.sample += static_cast<std::uint64_t>(n);
  return static_cast<double>(normals(random_words(position, static_cast<std::uint32_t>(i / 4))).value[i % 4]);
}

}  // namespace detail::reference

template <class T>
void launch(const Reference&, const Denoising<T>& p) {
  const auto& k = p.table[*p.step];
  RandomPosition position = p.position;
  position.step = static_cast<std::uint32_t>(*p.step);
  for (int n = 0; n < p.n; ++n)
    for (std::int64_t i = 0; i < p.per_sample; ++i) {
      const std::int64_t at = n * p.per_sample + i;
      const double x = static_cast<double>(p.x[at]), m = static_cast<double>(p.model_output[at]);
      const double clip = static_cast<double>(p.clip);
      const double x0 = std::clamp(
          static_cast<double>(k.x0_from_x) * x + static_cast<double>(k.x0_from_m) * m, -clip, clip);
      double next = static_cast<double>(k.x_from_x0) * x0 + static_cast<double>(k.x_from_x) * x +
                    static_cast<double>(k.x_from_m) * m;
      if (k.sigma != 0)
        next += static_cast<double>(k.sigma) *
                (p.noise ? static_cast<double>(p.noise[at]) : detail::reference::normal_at(position, n, i));
      p.x[at] = static_cast<Accumulator<T>>(next);
      if (p.x0) p.x0[at] = static_cast<Accumulator<T>>(x0);
      if (p.model_input) p.model_input[at] = static_cast<T>(p.x[at]);
    }
}

template <class Real>
void launch(const Reference&, const BeginStep<Real>& p) {
  ++*p.step;
  for (int n = 0; n < p.n; ++n) p.t[n] = p.table[*p.step].t;
}

template <class T>
void launch(const Reference&, const FillNormal<T>& p) {
  for (int n = 0; n < p.n; ++n)
    for (std::int64_t i = 0; i < p.per_sample; ++i)
      p.x[n * p.per_sample + i] = static_cast<T>(detail::reference::normal_at(p.position, n, i));
}

}  // namespace ddpm
