// SPDX-License-Identifier: MIT
// The usual noise schedules, with the names and formulas of diffusers' schedulers. A custom one is any type
// with steps() and beta(t).
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

#include <ddpm/diffusion/noise_levels.hpp>

namespace ddpm {

namespace detail {

// Element i of `count` evenly spaced numbers from first to last.
inline double linspace(double first, double last, int count, int i) {
  return count == 1 ? first : first + (last - first) * i / (count - 1);
}

}  // namespace detail

struct BetaRange {
  double beta_start = 1e-4;
  double beta_end = 0.02;
  int timesteps = 1000;
};

// "linear", Ho et al. 2020.
struct LinearSchedule : BetaRange {
  int steps() const { return timesteps; }
  double beta(int t) const { return detail::linspace(beta_start, beta_end, timesteps, t); }
};

// "scaled_linear": linear in the square root.
struct ScaledLinearSchedule : BetaRange {
  int steps() const { return timesteps; }
  double beta(int t) const {
    const double root = detail::linspace(std::sqrt(beta_start), std::sqrt(beta_end), timesteps, t);
    return root * root;
  }
};

// "sigmoid" of diffusers: a sigmoid in beta from -6 to 6.
struct SigmoidSchedule : BetaRange {
  int steps() const { return timesteps; }
  double beta(int t) const {
    return (beta_end - beta_start) / (1 + std::exp(-detail::linspace(-6, 6, timesteps, t))) + beta_start;
  }
};

// "squaredcos_cap_v2", Nichol & Dhariwal 2021.
struct CosineSchedule {
  int timesteps = 1000;
  double largest_beta = 0.999;

  int steps() const { return timesteps; }
  double beta(int t) const { return std::min(1 - alpha_bar(t + 1) / alpha_bar(t), largest_beta); }

 private:
  double alpha_bar(int t) const {
    const double angle = (double(t) / timesteps + 0.008) / 1.008 * std::numbers::pi / 2;
    return std::cos(angle) * std::cos(angle);
  }
};

// Any list of betas: "trained_betas", or a schedule read from a file.
struct TabulatedSchedule {
  std::vector<double> betas;

  int steps() const { return static_cast<int>(betas.size()); }
  double beta(int t) const { return betas[static_cast<std::size_t>(t)]; }
};

// Shifted so that the last step has no signal left (Lin et al. 2023). The last beta is 1: predict v or the
// image.
template <Schedule S>
TabulatedSchedule rescale_zero_terminal_snr(const S& schedule) {
  const NoiseLevels levels(schedule);
  const double first = levels.signal(0), last = levels.signal(levels.steps() - 1);
  TabulatedSchedule rescaled;
  double previous = 1;
  for (int t = 0; t < levels.steps(); ++t) {
    const double signal = (levels.signal(t) - last) * first / (first - last);
    const double alpha_bar = signal * signal;
    rescaled.betas.push_back(1 - alpha_bar / previous);
    previous = alpha_bar;
  }
  return rescaled;
}

}  // namespace ddpm
