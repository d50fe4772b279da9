// SPDX-License-Identifier: MIT
// Samplers turn noise levels into the coefficients of the reverse steps, see ddpm/ops/denoising.hpp.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include <ddpm/diffusion/concepts.hpp>
#include <ddpm/diffusion/threshold.hpp>

namespace ddpm {

// Which of the T time steps a shorter sampling visits (diffusers' timestep_spacing), for T = 1000 and 50
// steps: leading 980, 960, ..., 0; trailing 999, 979, ..., 19; linspace 999, 979, ..., 0.
enum class Spacing { leading, trailing, linspace };

// From which step's noise level the step to t starts: the one visited before, or always t - T / steps, as
// diffusers does (the same for leading spacing where steps divides T).
enum class Previous { visited, diffusers };

// The variance of an ancestral step: that of the posterior given x0 (beta tilde), or beta itself.
enum class Variance { fixed_small, fixed_large };

inline constexpr double no_clip = std::numeric_limits<double>::infinity();

// The time steps visited, first to last; `offset` is added to leading ones (diffusers' steps_offset), past
// the last time step if need be.
inline std::vector<int> spaced_timesteps(int total, int steps, Spacing spacing, int offset = 0) {
  check<ConfigError>(steps >= 1 && steps <= total, "sampler: ", steps, " steps asked for, the schedule has ",
                     total);
  std::vector<int> timesteps;
  for (int i = steps - 1; i >= 0; --i) {
    int t = i * (total / steps) + offset;
    if (spacing == Spacing::trailing)
      t = static_cast<int>(std::nearbyint(total - double(steps - 1 - i) * total / steps)) - 1;
    if (spacing == Spacing::linspace)
      t = steps == 1 ? 0 : static_cast<int>(std::nearbyint(double(i) * (total - 1) / (steps - 1)));
    timesteps.push_back(t);
  }
  return timesteps;
}

namespace detail {

// x0 and eps as linear functions of x and the model's output m.
struct PredictionCoefficients {
  double x0_from_x, x0_from_m, eps_from_x, eps_from_m;
};

inline PredictionCoefficients prediction_coefficients(Prediction prediction, double alpha_bar) {
  const double signal = std::sqrt(alpha_bar), sigma = std::sqrt(1 - alpha_bar);
  check<ConfigError>(
      prediction != Prediction::epsilon || signal > 0,
      "sampler: a time step without signal was visited, where noise says nothing of the image, "
      "expected a model that predicts v or the image");
  switch (prediction) {
    case Prediction::epsilon:
      return {1 / signal, -sigma / signal, 0, 1};
    case Prediction::sample:
      return {0, 1, 1 / sigma, -signal / sigma};
    default:
      return {signal, -sigma, sigma, signal};
  }
}

// Where a step goes: the index of the time step after timesteps[i], or -1 for the clean image.
inline int previous_timestep(const std::vector<int>& timesteps, std::size_t i, int total, Previous previous) {
  if (previous == Previous::diffusers) return timesteps[i] - total / static_cast<int>(timesteps.size());
  return i + 1 < timesteps.size() ? timesteps[i + 1] : -1;
}

// All steps of a sampler, from one visited time step to the next.
template <class S>
std::vector<DenoisingCoefficients<double>> plan_steps(const S& sampler, int steps, const NoiseLevels& levels,
                                                      Prediction prediction) {
  const auto timesteps = spaced_timesteps(levels.steps(), steps, sampler.spacing, sampler.offset);
  check<ConfigError>(timesteps.front() < levels.steps() && timesteps.back() >= 0, "sampler: an offset of ",
                     sampler.offset, " puts ", steps, " steps at time steps ", timesteps.front(), " to ",
                     timesteps.back(), ", expected them from ", levels.steps() - 1, " to 0");
  std::vector<DenoisingCoefficients<double>> plan;
  for (std::size_t i = 0; i < timesteps.size(); ++i)
    plan.push_back(sampler.step(levels, prediction, timesteps[i],
                                previous_timestep(timesteps, i, levels.steps(), sampler.previous)));
  return plan;
}

}  // namespace detail

// The sampling of Ho et al. 2020, algorithm 2.
struct Ancestral {
  int steps = 0;  // 0: all
  Variance variance = Variance::fixed_small;
  double clip = 1;
  DynamicThreshold threshold = {};  // takes the place of clip
  Spacing spacing = Spacing::leading;
  int offset = 0;
  Previous previous = Previous::visited;

  std::vector<DenoisingCoefficients<double>> plan(const NoiseLevels& levels, Prediction prediction) const {
    return detail::plan_steps(*this, steps == 0 ? levels.steps() : steps, levels, prediction);
  }

  // One step from time step t to time step `to` (below 0: to the clean image).
  DenoisingCoefficients<double> step(const NoiseLevels& levels, Prediction prediction, int t, int to) const {
    const double here = levels.at(t), there = to >= 0 ? levels.at(to) : 1;
    const double alpha = here / there, beta = 1 - alpha;
    const auto from = detail::prediction_coefficients(prediction, here);
    const double posterior = (1 - there) / (1 - here) * beta;
    return {.x0_from_x = from.x0_from_x,
            .x0_from_m = from.x0_from_m,
            .x_from_x0 = std::sqrt(there) * beta / (1 - here),
            .x_from_x = std::sqrt(alpha) * (1 - there) / (1 - here),
            .x_from_m = 0,
            .sigma = t == 0 ? 0 : std::sqrt(variance == Variance::fixed_large ? beta : posterior),
            .t = t};
  }
};

// Denoising diffusion implicit models, Song et al. 2021.
struct Ddim {
  int steps = 50;
  double eta = 0;             // 1: as random as Ancestral
  bool rederive_eps = false;  // from the clipped image, as guided-diffusion does; false: as diffusers
  double clip = 1;
  DynamicThreshold threshold = {};  // takes the place of clip
  Spacing spacing = Spacing::leading;
  int offset = 0;
  Previous previous = Previous::visited;
  bool alpha_to_one =
      true;  // the last step goes to the clean image; false: to time step 0 (diffusers' set_alpha_to_one)

  std::vector<DenoisingCoefficients<double>> plan(const NoiseLevels& levels, Prediction prediction) const {
    return detail::plan_steps(*this, steps, levels, prediction);
  }

  DenoisingCoefficients<double> step(const NoiseLevels& levels, Prediction prediction, int t, int to) const {
    const double here = levels.at(t), there = to >= 0 ? levels.at(to) : alpha_to_one ? 1 : levels.at(0);
    const auto from = detail::prediction_coefficients(prediction, here);
    const double sigma = eta * std::sqrt((1 - there) / (1 - here) * (1 - here / there));
    const double direction = std::sqrt(std::max(1 - there - sigma * sigma, 0.0));
    DenoisingCoefficients<double> k{.x0_from_x = from.x0_from_x,
                                    .x0_from_m = from.x0_from_m,
                                    .x_from_x0 = std::sqrt(there),
                                    .x_from_x = direction * from.eps_from_x,
                                    .x_from_m = direction * from.eps_from_m,
                                    .sigma = sigma,
                                    .t = t};
    if (rederive_eps) {  // eps = (x - signal x0) / sigma_t
      k.x_from_x0 -= direction * std::sqrt(here / (1 - here));
      k.x_from_x = direction / std::sqrt(1 - here);
      k.x_from_m = 0;
    }
    return k;
  }
};

}  // namespace ddpm
