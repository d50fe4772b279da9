// SPDX-License-Identifier: MIT
// What a SchedulerConfig means here: a noise schedule, a prediction and a sampler.
#pragma once

#include <string>
#include <variant>

#include <ddpm/core/error.hpp>
#include <ddpm/diffusion/sampler.hpp>
#include <ddpm/diffusion/schedule.hpp>
#include <ddpm/io/scheduler_config.hpp>

namespace ddpm::io {

// The noise schedule that a configuration describes.
inline TabulatedSchedule schedule_of(const SchedulerConfig& config) {
  const auto tabulate = [&](const auto& schedule) {
    if (config.rescale_betas_zero_snr) return rescale_zero_terminal_snr(schedule);
    TabulatedSchedule table;
    for (int t = 0; t < schedule.steps(); ++t) table.betas.push_back(schedule.beta(t));
    return table;
  };
  const BetaRange range{config.beta_start, config.beta_end, config.num_train_timesteps};
  if (!config.trained_betas.empty()) return tabulate(TabulatedSchedule{config.trained_betas});
  if (config.beta_schedule == "linear") return tabulate(LinearSchedule{range});
  if (config.beta_schedule == "scaled_linear") return tabulate(ScaledLinearSchedule{range});
  if (config.beta_schedule == "sigmoid") return tabulate(SigmoidSchedule{range});
  if (config.beta_schedule == "squaredcos_cap_v2")
    return tabulate(CosineSchedule{config.num_train_timesteps});
  throw ConfigError(message("beta_schedule is \"", config.beta_schedule,
                            "\", expected linear, scaled_linear, sigmoid or squaredcos_cap_v2"));
}

inline Prediction prediction_of(const SchedulerConfig& config) {
  if (config.prediction_type == "epsilon") return Prediction::epsilon;
  if (config.prediction_type == "sample") return Prediction::sample;
  if (config.prediction_type == "v_prediction") return Prediction::v;
  throw ConfigError(message("prediction_type is \"", config.prediction_type,
                            "\", expected epsilon, sample or v_prediction"));
}

inline Spacing spacing_of(const SchedulerConfig& config) {
  if (config.timestep_spacing == "leading") return Spacing::leading;
  if (config.timestep_spacing == "linspace") return Spacing::linspace;
  if (config.timestep_spacing == "trailing") return Spacing::trailing;
  throw ConfigError(message("timestep_spacing is \"", config.timestep_spacing,
                            "\", expected leading, linspace or trailing"));
}

inline Variance variance_of(const SchedulerConfig& config) {
  // fixed_small_log is the same number by way of its logarithm.
  if (config.variance_type == "fixed_small" || config.variance_type == "fixed_small_log")
    return Variance::fixed_small;
  if (config.variance_type == "fixed_large") return Variance::fixed_large;
  throw ConfigError(message("variance_type is \"", config.variance_type,
                            "\", expected fixed_small, fixed_small_log or fixed_large"));
}

namespace detail {

inline double clip_of(const SchedulerConfig& config) {
  return config.clip_sample ? config.clip_sample_range : no_clip;
}

inline DynamicThreshold threshold_of(const SchedulerConfig& config) {
  if (!config.thresholding) return {};
  return {config.dynamic_thresholding_ratio, config.sample_max_value};
}

}  // namespace detail

// The sampler that makes the steps of diffusers' DDPMScheduler; 0 steps: all. (Up to release 0.27 that
// scheduler took Previous::diffusers, which is another thing for linspace and trailing spacing only.)
inline Ancestral ancestral_of(const SchedulerConfig& config, int steps = 0) {
  return {.steps = steps,
          .variance = variance_of(config),
          .clip = detail::clip_of(config),
          .threshold = detail::threshold_of(config),
          .spacing = spacing_of(config),
          .offset = config.steps_offset};
}

// That of diffusers' DDIMScheduler with eta 0, or of its DPMSolverMultistepScheduler of order 1, which takes
// the noise from the bounded image.
inline Ddim ddim_of(const SchedulerConfig& config, int steps = 50) {
  return {.steps = steps,
          .rederive_eps = config.is_dpm(),
          .clip = detail::clip_of(config),
          .threshold = detail::threshold_of(config),
          .spacing = spacing_of(config),
          .offset = config.steps_offset,
          .previous = config.is_dpm() ? Previous::visited : Previous::diffusers,
          .alpha_to_one = config.set_alpha_to_one};
}

// That of the configuration's own class, to be used with std::visit. 0 steps: those that diffusers' pipelines
// take, all of DDPM's and 50 of the others'.
inline std::variant<Ancestral, Ddim> sampler_of(const SchedulerConfig& config, int steps = 0) {
  if (config.is_ddpm()) return ancestral_of(config, steps);
  return ddim_of(config, steps == 0 ? 50 : steps);
}

}  // namespace ddpm::io
