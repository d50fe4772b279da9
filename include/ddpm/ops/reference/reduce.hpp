// SPDX-License-Identifier: MIT
// Reductions by plain loops. Math and parameters: ddpm/ops/reduce.hpp.
#pragma once

#include <ddpm/ops/reduce.hpp>

namespace ddpm {

template <class T>
void launch(const Reference&, const SquaredNorm<T>& p) {
  double sum = 0;
  for (std::int64_t i = 0; i < p.count; ++i) sum += static_cast<double>(p.x[i]) * static_cast<double>(p.x[i]);
  *p.out = static_cast<T>(sum);
}

}  // namespace ddpm
