// SPDX-License-Identifier: MIT
// Small models with known outputs, on the devices of the host.
#pragma once

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include <ddpm/ddpm.hpp>

namespace diffusion_support {

// A model that is a function f(x, t) of every element.
template <class T, ddpm::HostDevice D, class F>
class Pointwise {
 public:
  using value_type = T;
  using device_type = D;

  Pointwise(const D& device, F f) : device_(device), f_(std::move(f)) {}

  const D& device() const { return device_; }

  ddpm::Tensor<T, D> predict(const ddpm::TensorView<T, D>& x,
                             const ddpm::TensorView<std::int32_t, D>& t) const {
    ddpm::Tensor<T, D> y(device_, x.shape());
    const std::int64_t per_sample = x.numel() / x.shape()[0];
    for (std::int64_t i = 0; i < x.numel(); ++i)
      y.data()[i] = static_cast<T>(f_(static_cast<double>(x.data()[i]), t.data()[i / per_sample]));
    return y;
  }

 private:
  D device_;
  F f_;
};

template <class T, class D, class F>
auto pointwise(const D& device, F f) {
  return Pointwise<T, D, F>(device, std::move(f));
}

// x t / (t + 1), the model of diffusers' scheduler tests.
inline double scaled_by_time(double x, int t) { return x * t / (t + 1); }

// Independent normal data of the given mean and variance, for which the best prediction is known.
struct NormalData {
  double mean, variance;

  // The exact output of the model at x_t = x: slope * x + offset.
  std::pair<double, double> line(ddpm::Prediction prediction, double alpha_bar) const {
    const double signal = std::sqrt(alpha_bar), sigma = std::sqrt(1 - alpha_bar);
    const double marginal = alpha_bar * variance + sigma * sigma;  // x_t ~ N(signal mean, marginal)
    const double eps = sigma / marginal, x0 = signal * variance / marginal;
    const double slope = prediction == ddpm::Prediction::epsilon  ? eps
                         : prediction == ddpm::Prediction::sample ? x0
                                                                  : signal * eps - sigma * x0;
    const double at_mean = prediction == ddpm::Prediction::epsilon  ? 0
                           : prediction == ddpm::Prediction::sample ? mean
                                                                    : -sigma * mean;
    return {slope, at_mean - slope * signal * mean};
  }
};

}  // namespace diffusion_support
