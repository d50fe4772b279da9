// SPDX-License-Identifier: MIT
// Linear layer by plain loops. Math and parameters: ddpm/ops/linear.hpp.
#pragma once

#include <ddpm/ops/linear.hpp>
#include <ddpm/ops/reference/conv2d.hpp>

namespace ddpm {

template <class T>
void launch(const Reference&, const LinearForward<T>& p) {
  for (std::int64_t m = 0; m < p.m; ++m)
    for (int o = 0; o < p.out; ++o) {
      double sum = p.bias ? static_cast<double>(p.bias[o]) : 0.0;
      for (int i = 0; i < p.in; ++i)
        sum += static_cast<double>(p.x[m * p.in + i]) *
               static_cast<double>(p.weight[std::int64_t{o} * p.in + i]);
      if (p.residual) sum += static_cast<double>(p.residual[m * p.out + o]);
      p.y[m * p.out + o] = static_cast<T>(sum * static_cast<double>(p.scale));
    }
}

template <class T>
void launch(const Reference&, const LinearBackwardData<T>& p) {
  for (std::int64_t m = 0; m < p.m; ++m)
    for (int i = 0; i < p.in; ++i) {
      double sum = p.add ? static_cast<double>(p.add[m * p.in + i]) : 0.0;
      for (int o = 0; o < p.out; ++o)
        sum += static_cast<double>(p.dy[m * p.out + o]) *
               static_cast<double>(p.weight[std::int64_t{o} * p.in + i]);
      p.dx[m * p.in + i] = static_cast<T>(sum);
    }
}

template <class T>
void launch(const Reference&, const LinearBackwardWeight<T>& p) {
  for (int o = 0; o < p.out; ++o)
    for (int i = 0; i < p.in; ++i) {
      double sum = 0;
      for (std::int64_t m = 0; m < p.m; ++m)
        sum += static_cast<double>(p.dy[m * p.out + o]) * static_cast<double>(p.x[m * p.in + i]);
      Accumulator<T>& to = p.dweight[std::int64_t{o} * p.in + i];
      to = static_cast<Accumulator<T>>(to + sum);
    }
  if (p.dbias) detail::reference::add_column_sums(p.dy, p.m, p.out, p.dbias);
}

}  // namespace ddpm
