// SPDX-License-Identifier: MIT
// Schedule, the variances beta_t of the forward process, and NoiseLevels, the tables derived from it once, in
// double.
#pragma once

#include <cmath>
#include <concepts>
#include <vector>

#include <ddpm/core/error.hpp>

namespace ddpm {

// steps() is T, beta(t) the variance that step t adds, 0 <= t < T (t = 0 is one step of noise).
template <class S>
concept Schedule = requires(const S schedule, int t) {
  { schedule.steps() } -> std::convertible_to<int>;
  { schedule.beta(t) } -> std::convertible_to<double>;
};

struct NoiseLevels {
  std::vector<double> beta;
  std::vector<double> alpha_bar;  // alpha_bar[t] = product over s <= t of (1 - beta[s])

  template <Schedule S>
  explicit NoiseLevels(const S& schedule) {
    check<ConfigError>(schedule.steps() >= 1, "schedule: it has ", schedule.steps(),
                       " steps, expected at least 1");
    double product = 1;
    for (int t = 0; t < schedule.steps(); ++t) {
      const double b = schedule.beta(t);
      check<ConfigError>(b >= 0 && (b < 1 || (b == 1 && t == schedule.steps() - 1)), "schedule: beta(", t,
                         ") is ", b, ", expected a variance in [0, 1], and 1 at the last step alone");
      beta.push_back(b);
      alpha_bar.push_back(product *= 1 - b);
    }
  }

  int steps() const { return static_cast<int>(beta.size()); }
  double at(int t) const {
    check<ConfigError>(t >= 0 && t < steps(), "schedule: time step ", t, " asked for, there are ", steps());
    return alpha_bar[static_cast<std::size_t>(t)];
  }
  double signal(int t) const { return std::sqrt(at(t)); }
  double sigma(int t) const { return std::sqrt(1 - at(t)); }
};

}  // namespace ddpm
