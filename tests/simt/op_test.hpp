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
      : host_(std::move(values)), offset_(offset), start_(padded()), device_(start_) {}

  T* host() { return host_.data(); }
  T* device() const { return device_.data() + offset_; }
  std::size_t size() const { return host_.size(); }
  std::vector<T> device_values() const {
    const std::vector<T> all = device_.host();
    return {all.begin() + static_cast<std::ptrdiff_t>(offset_), all.end()};
  }
  // Gives the device the values again that it began with.
  void restore() const { CudaSim{}.upload(device_.data(), start_.data(), start_.size() * sizeof(T)); }

 private:
  std::vector<T> padded() const {
    std::vector<T> all(offset_, T{});
    all.insert(all.end(), host_.begin(), host_.end());
    return all;
  }

  std::vector<T> host_;
  std::size_t offset_;
  std::vector<T> start_;
  DeviceArray<T> device_;
};

// Where parameters take the pointers of operands from.
inline constexpr auto on_host = [](auto& operand) { return operand.host(); };
inline constexpr auto on_device = [](auto& operand) { return operand.device(); };

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

template <class... T>
std::string bits(const Operand<T>&... operands) {
  std::string all;
  const auto add = [&](const auto& values) {
    all.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0]));
  };
  (add(operands.device_values()), ...);
  return all;
}

// Runs under every schedule from the same start; the results must have the same bits each time. Once is
// enough for the hooks, which find races in any order.
template <class Run, class... T>
void run_everywhere_alike(Run run, const Operand<T>&... results) {
  std::string first;
  const auto run_once = [&] {
    (results.restore(), ...);
    run();
    if (first.empty()) first = bits(results...);
    REQUIRE(bits(results...) == first);
  };
  if (Executor::instance().has_hooks())
    run_once();
  else
    for_all_schedules(run_once);
}

}  // namespace ddpm::simt
