// SPDX-License-Identifier: MIT
// Comparison of a kernel with Reference: the same parameters on device memory and on host memory.
#pragma once

#include <cmath>
#include <random>

#include <ddpm/core/dtype.hpp>

#include "sim_test.hpp"

namespace ddpm::simt {

// One operand in both memories. `offset` elements lie before it, to take its alignment away.
template <class T>
class Operand {
 public:
  explicit Operand(std::vector<T> values, std::size_t offset = 0)
      : host_(std::move(values)), offset_(offset), device_(padded()) {}

  T* host() { return host_.data(); }
  T* device() const { return device_.data() + offset_; }
  std::size_t size() const { return host_.size(); }
  std::vector<T> device_values() const {
    const std::vector<T> all = device_.host();
    return {all.begin() + static_cast<std::ptrdiff_t>(offset_), all.end()};
  }

 private:
  std::vector<T> padded() const {
    std::vector<T> all(offset_, T{});
    all.insert(all.end(), host_.begin(), host_.end());
    return all;
  }

  std::vector<T> host_;
  std::size_t offset_;
  DeviceArray<T> device_;
};

// Standard normal values.
template <class T>
std::vector<T> normal_values(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>(normal(engine));
  return values;
}

// The largest difference, as a part of the largest expected value. What bf16 adds by rounding is no part of
// it: each element may be one of its units in the last place off.
template <class T>
double relative_error(const std::vector<T>& result, const T* expected) {
  double largest = 0, error = 0;
  for (std::size_t i = 0; i < result.size(); ++i) {
    const double a = static_cast<double>(result[i]), b = static_cast<double>(expected[i]);
    const double rounding = std::is_same_v<T, bf16> ? std::abs(b) * 0x1p-7 : 0;
    largest = std::max(largest, std::abs(b));
    error = std::isfinite(a) ? std::max(error, std::abs(a - b) - rounding) : INFINITY;
  }
  return largest == 0 ? error : error / largest;
}

template <class T>
double error_of(Operand<T>& operand) {
  return relative_error(operand.device_values(), operand.host());
}

}  // namespace ddpm::simt
