// SPDX-License-Identifier: MIT
// SiLU and softmax by plain loops. Math and parameters: ddpm/ops/activation.hpp.
#pragma once

#include <algorithm>

#include <ddpm/ops/activation.hpp>

namespace ddpm {

template <class T>
void launch(const Reference&, const SiluForward<T>& p) {
  for (std::int64_t i = 0; i < p.count; ++i) p.y[i] = static_cast<T>(silu_value(static_cast<double>(p.x[i])));
}

template <class T>
void launch(const Reference&, const SiluBackward<T>& p) {
  for (std::int64_t i = 0; i < p.count; ++i)
    p.dx[i] = static_cast<T>(static_cast<double>(p.dy[i]) * silu_slope(static_cast<double>(p.x[i])));
}

template <class T>
void launch(const Reference&, const SoftmaxForward<T>& p) {
  for (std::int64_t row = 0; row < p.rows; ++row) {
    const T* x = p.x + row * p.cols;
    const double largest = static_cast<double>(*std::max_element(x, x + p.cols));
    double sum = 0;
    for (int i = 0; i < p.cols; ++i) sum += std::exp(static_cast<double>(x[i]) - largest);
    for (int i = 0; i < p.cols; ++i)
      p.y[row * p.cols + i] = static_cast<T>(std::exp(static_cast<double>(x[i]) - largest) / sum);
  }
}

template <class T>
void launch(const Reference&, const SoftmaxBackward<T>& p) {
  for (std::int64_t row = 0; row < p.rows; ++row) {
    const T *y = p.y + row * p.cols, *dy = p.dy + row * p.cols;
    double dot = 0;
    for (int i = 0; i < p.cols; ++i) dot += static_cast<double>(y[i]) * static_cast<double>(dy[i]);
    for (int i = 0; i < p.cols; ++i)
      p.dx[row * p.cols + i] = static_cast<T>(static_cast<double>(y[i]) * (static_cast<double>(dy[i]) - dot));
  }
}

}  // namespace ddpm
