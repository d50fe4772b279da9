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
    RandomPosition position = p.position;
    position.sample += static_cast<std::uint64_t>(n);
    const double weight = p.weight ? static_cast<double>(p.weight[n]) : 1.0;
    for (std::int64_t i = 0; i < p.per_sample; ++i) {
      const std::int64_t at = n * p.per_sample + i;
      const Accumulator<T> target =
          p.target ? p.target[at]
                   : static_cast<Accumulator<T>>(
                         normals(random_words(position, static_cast<std::uint32_t>(i / 4))).value[i % 4]);
      const double difference = static_cast<double>(p.prediction[at]) - static_cast<double>(target);
      loss += weight * difference * difference;
      if (p.dprediction) p.dprediction[at] = static_cast<T>(2 * weight * difference / count);
    }
  }
  *p.loss = static_cast<Accumulator<T>>(loss / count);
}

}  // namespace ddpm
