// SPDX-License-Identifier: MIT
// Any bytes as a scheduler_config.json: a configuration that is written and read back with the same schedule
// and steps, or an error.
#include <cmath>
#include <variant>

#include <ddpm/io/scheduler.hpp>

#include "fuzz_support.hpp"

namespace {

using namespace ddpm;

void plan(const io::SchedulerConfig& config) try {
  const NoiseLevels levels(io::schedule_of(config));
  std::visit(
      [&](const auto& sampler) {
        for (const auto& k : sampler.plan(levels, io::prediction_of(config)))
          fuzz::require(std::isfinite(k.x_from_x0) && k.sigma >= 0 && k.t >= 0 && k.t < levels.steps());
      },
      io::sampler_of(config, 3));
} catch (const Error& error) {
  fuzz::require_sentence(error.what());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) try {
  const io::SchedulerConfig config = io::parse_scheduler_config(fuzz::text(data, size));
  const io::SchedulerConfig again = io::parse_scheduler_config(io::scheduler_config_json(config));
  fuzz::require(again.prediction_type == config.prediction_type && again.class_name == config.class_name);
  if (config.num_train_timesteps <= 2000) {
    fuzz::require(config.is_dpm() || io::schedule_of(again).betas == io::schedule_of(config).betas);
    plan(config);
  }
  return 0;
} catch (const Error& error) {
  fuzz::require_sentence(error.what());
  return 0;
}
