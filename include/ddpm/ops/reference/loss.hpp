// SPDX-License-Identifier: MIT
// Mean squared error by plain loops. Math and parameters: ddpm/ops/loss.hpp.
#pragma once

#include <ddpm/ops/loss.hpp>

namespace ddpm {

template <class T>
void launch(const Reference&, const MseLoss<T>& p) {
  const double count = static_cast<double>(p.n) * static_cast<double>(p.per_sample);
  double loss = 0;
  for (int n = 0; n < p.n; ++n) {
    const double weight = p.weight ? static_cast<double>(p.weight[n]) : 1.0;
    for (std::int64_t i = n * p.per_sample; i < (n + 1) * p.per_sample; ++i) {
      const double difference = static_cast<double>(p.prediction[i]) - static_cast<double>(p.target[i]);
      loss += weight * difference * difference;
      if (p.dprediction) p.dprediction[i] = static_cast<T>(2 * weight * difference / count);
    }
  }
  *p.loss = static_cast<Accumulator<T>>(loss / count);
}

}  // namespace ddpm
