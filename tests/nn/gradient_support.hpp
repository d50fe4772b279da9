// SPDX-License-Identifier: MIT
// Central differences of whole layers and models, in double on Reference.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include <ddpm/core/tensor.hpp>

#include "catch_shim.hpp"

namespace gradient_support {

template <class T>
std::vector<T> uniform(std::int64_t count, std::uint32_t seed, double low = -1, double high = 1) {
  std::mt19937 random(seed);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& v : values) v = static_cast<T>(low + (high - low) * static_cast<double>(random()) * 0x1p-32);
  return values;
}

template <class T, ddpm::Device D>
ddpm::Tensor<T, D> uniform_tensor(const D& device, const ddpm::Shape& shape, std::uint32_t seed) {
  return {device, shape, uniform<T>(shape.numel(), seed)};
}

// Every parameter away from its special values: gammas around 1, all else around 0 and of the size that keeps
// the activations of a layer near 1.
template <class Model>
void randomize(const Model& model) {
  std::uint32_t seed = 100;
  model.visit("", [&](const std::string& name, const auto& parameter) {
    const auto value = parameter.value();
    using Real = typename std::remove_cvref_t<decltype(value)>::value_type;
    const ddpm::Shape& s = value.shape();
    const bool gamma = s.rank() == 1 && name.ends_with("weight");
    const double fan_in = s.rank() < 2 ? 12.0 : static_cast<double>(s.numel() / s[0]);
    const double spread = std::sqrt(3 / fan_in), middle = gamma ? 1 : 0;
    value.upload(uniform<Real>(value.numel(), ++seed, middle - spread, middle + spread));
    parameter.changed();
  });
}

template <class T>
double dot(const std::vector<T>& a, const std::vector<T>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

inline double largest(const ddpm::TensorView<double, ddpm::Reference>& x) {
  double most = 0;
  for (const double v : x.to_host()) most = std::max(most, std::abs(v));
  return most;
}

struct DifferenceOptions {
  double scale = 0;         // what the error is relative to; 0: the largest element of the gradient
  std::int64_t count = 24;  // elements of a long tensor that are moved
  std::uint32_t seed = 1;
};

// Compares `gradient` with the differences of loss() as some elements of x move; loss() sees every change.
template <class Loss>
void check_gradient(const std::string& name, const ddpm::TensorView<double, ddpm::Reference>& x,
                    const ddpm::TensorView<double, ddpm::Reference>& gradient, Loss&& loss,
                    const DifferenceOptions& options = {}) {
  REQUIRE(x.shape() == gradient.shape());
  const double scale = options.scale > 0 ? options.scale : largest(gradient), h = 3e-4;
  std::mt19937 random(options.seed);
  double worst = 0;
  const std::int64_t count = std::min(options.count, x.numel());
  for (std::int64_t k = 0; k < count; ++k) {
    const auto i =
        count == x.numel() ? k : static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(x.numel()));
    const double kept = x.data()[i];
    const auto at = [&](double shift) {
      x.data()[i] = kept + shift;
      return loss();
    };
    const double difference = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    at(0);
    const double error = std::abs(difference - gradient.data()[i]);
    worst = std::isnan(error) ? error : std::max(worst, error);
    if (std::isnan(error)) break;
  }
  INFO(name << ": off by " << worst << ", gradients are up to " << scale);
  CHECK(scale > 0);
  CHECK(worst <= 1e-6 * scale);
}

// The gradients of every parameter. That of to_k.bias is zero by the shift invariance of the softmax, so it
// is measured by its neighbour to_q.bias.
template <class Model, class Loss>
void check_parameter_gradients(const std::string& name, const Model& model, Loss&& loss,
                               DifferenceOptions options = {}) {
  double to_q = 0;
  model.visit(name + ' ', [&](const std::string& full, const auto& parameter) {
    options.scale = full.ends_with("to_k.bias") ? to_q : 0;
    if (full.ends_with("to_q.bias")) to_q = largest(parameter.gradient());
    ++options.seed;
    check_gradient(
        full, parameter.value(), parameter.gradient(),
        [&] {
          parameter.changed();
          return loss();
        },
        options);
  });
}

// The gradients of every parameter, to be compared between devices; to_k.bias joins to_q.bias for the reason
// above.
template <class T, class Model>
void append_gradients(const Model& model, std::vector<std::vector<T>>& outputs) {
  std::size_t to_q = 0;
  model.visit("", [&](const std::string& name, const auto& parameter) {
    const std::vector<T> gradient = parameter.gradient().to_host();
    if (name.ends_with("to_k.bias")) {
      outputs[to_q].insert(outputs[to_q].end(), gradient.begin(), gradient.end());
      return;
    }
    if (name.ends_with("to_q.bias")) to_q = outputs.size();
    outputs.push_back(gradient);
  });
}

}  // namespace gradient_support
