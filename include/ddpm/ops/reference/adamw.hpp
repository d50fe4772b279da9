// SPDX-License-Identifier: MIT
// AdamW and EMA by plain loops. Math and parameters: ddpm/ops/adamw.hpp.
#pragma once

#include <ddpm/ops/adamw.hpp>

namespace ddpm {

template <class Real>
void launch(const Reference&, const AdamWUpdate<Real>& p) {
  const AdamWOptions& o = p.options;
  const AdamWStep& s = *p.step;
  const double clip = p.squared_norm ? clip_factor(static_cast<double>(*p.squared_norm), o.grad_clip) : 1.0;
  for (std::int64_t i = 0; i < p.count; ++i) {
    const double g = static_cast<double>(p.gradient[i]) * clip;
    const double first = o.beta1 * static_cast<double>(p.first[i]) + (1 - o.beta1) * g;
    const double second = o.beta2 * static_cast<double>(p.second[i]) + (1 - o.beta2) * g * g;
    const double value = static_cast<double>(p.value[i]) * s.keep -
                         s.step_size * first / (std::sqrt(second) * s.root_scale + o.eps);
    p.first[i] = static_cast<Real>(first);
    p.second[i] = static_cast<Real>(second);
    p.value[i] = static_cast<Real>(value);
    if (p.average)
      p.average[i] =
          static_cast<Real>(s.ema_decay * static_cast<double>(p.average[i]) + (1 - s.ema_decay) * value);
    if (p.copy) p.copy[i] = static_cast<bf16>(p.value[i]);
  }
}

template <class Real>
void launch(const Reference&, const EmaUpdate<Real>& p) {
  for (std::int64_t i = 0; i < p.count; ++i)
    p.average[i] = static_cast<Real>(*p.decay * static_cast<double>(p.average[i]) +
                                     (1 - *p.decay) * static_cast<double>(p.value[i]));
}

}  // namespace ddpm
