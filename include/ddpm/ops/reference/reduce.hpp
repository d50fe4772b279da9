// SPDX-License-Identifier: MIT
// Reductions by plain loops. Math and parameters: ddpm/ops/reduce.hpp.
#pragma once

#include <ddpm/ops/reduce.hpp>

namespace ddpm {

template <class T>
void launch(const Reference&, const BiasBackward<T>& p) {
  for (int c = 0; c < p.c; ++c) {
    double total = 0;
    for (int n = 0; n < p.n; ++n) {
      double sum = 0;
      for (int i = 0; i < p.hw; ++i) sum += static_cast<double>(p.dy[(std::int64_t{n} * p.hw + i) * p.c + c]);
      if (p.per_sample) p.per_sample[std::int64_t{n} * p.c + c] = static_cast<T>(sum);
      total += sum;
    }
    if (p.dbias) p.dbias[c] = static_cast<Accumulator<T>>(p.dbias[c] + total);
  }
}

template <class T>
void launch(const Reference&, const SquaredNorm<T>& p) {
  double sum = 0;
  for (std::int64_t i = 0; i < p.count; ++i) sum += static_cast<double>(p.x[i]) * static_cast<double>(p.x[i]);
  *p.out = static_cast<T>(sum);
}

}  // namespace ddpm
