// SPDX-License-Identifier: MIT
// Axis: from values to positions on a plot, and the round numbers to label.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

namespace ddpm::io::detail {

// The shortest usual way to write a tick: 20k, 0.05, 1e-05.
inline std::string tick_label(double value) {
  constexpr int longest = 32;
  char text[longest];
  const double size = std::abs(value);
  if (size >= 1e3 && size < 1e6)
    std::snprintf(text, longest, "%gk", value / 1e3);
  else if (size >= 1e6 && size < 1e9)
    std::snprintf(text, longest, "%gM", value / 1e6);
  else
    std::snprintf(text, longest, "%.5g", value);
  return text;
}

class Axis {
 public:
  enum class Scale { linear, logarithmic };

  // `values` are finite, and positive on a logarithmic axis; the range is widened by `margin` of itself.
  Axis(std::span<const double> values, Scale scale, double margin) : scale_(scale) {
    const auto [low, high] = std::ranges::minmax(values);
    low_ = transformed(low);
    high_ = transformed(high);
    // Below a millionth of the values' size a difference is rounding, not shape.
    const double size = std::max(std::abs(low_), std::abs(high_));
    const double width = high_ - low_;
    const double pad = width > size * 1e-6 ? width * margin : size > 0 ? size * 0.1 : 1.0;
    low_ -= pad;
    high_ += pad;
  }

  // 0 at the low end, 1 at the high end.
  double position(double value) const { return (transformed(value) - low_) / (high_ - low_); }

  // About `wanted` round values within the range.
  std::vector<double> ticks(int wanted) const {
    if (scale_ == Scale::linear) return multiples(low_, high_, round_step((high_ - low_) / wanted));
    std::vector<double> ticks = decades({1, 2, 5});
    if (static_cast<int>(ticks.size()) > wanted + 2) ticks = decades({1});
    const auto every = static_cast<std::size_t>(std::max(1, static_cast<int>(ticks.size()) / (wanted + 1)));
    std::vector<double> kept;
    for (std::size_t i = 0; i < ticks.size(); i += every) kept.push_back(ticks[i]);
    if (kept.size() >= 3) return kept;
    const double low = std::pow(10, low_), high = std::pow(10, high_);
    return multiples(low, high, round_step((high - low) / wanted));
  }

 private:
  double transformed(double value) const { return scale_ == Scale::linear ? value : std::log10(value); }

  // The smallest of 1, 2 or 5 times a power of ten that is at least `step`.
  static double round_step(double step) {
    const double power = std::pow(10, std::floor(std::log10(step)));
    for (const double factor : {1.0, 2.0, 5.0})
      if (step <= factor * power * (1 + 1e-9)) return factor * power;
    return 10 * power;
  }

  static std::vector<double> multiples(double low, double high, double step) {
    std::vector<double> ticks;
    const double first = std::ceil(low / step - 1e-9), last = std::floor(high / step + 1e-9);
    constexpr double most = 64;  // ends the loop also where first and last are infinite
    for (double i = 0; i <= std::min(last - first, most); ++i) ticks.push_back((first + i) * step);
    return ticks;
  }

  std::vector<double> decades(std::initializer_list<double> factors) const {
    std::vector<double> ticks;
    for (double power = std::floor(low_); power <= high_; ++power)
      for (const double factor : factors) {
        const double value = factor * std::pow(10, power);
        const double place = position(value);
        if (place >= 0 && place <= 1) ticks.push_back(value);
      }
    return ticks;
  }

  Scale scale_;
  double low_ = 0, high_ = 1;  // transformed
};

}  // namespace ddpm::io::detail
