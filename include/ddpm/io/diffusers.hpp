// SPDX-License-Identifier: MIT
// Checkpoint folders of diffusers: a UNet2DModel and its scheduler, read and written.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include <ddpm/diffusion/diffusion.hpp>
#include <ddpm/io/diffusers_config.hpp>
#include <ddpm/io/diffusers_folder.hpp>
#include <ddpm/io/parameters.hpp>
#include <ddpm/io/scheduler_config.hpp>
#include <ddpm/models/unet.hpp>

namespace ddpm::io {

// The model of a folder that diffusers or save_diffusers() wrote: M is a UNet.
template <Model M>
M load_diffusers(const std::filesystem::path& folder, const typename M::device_type& device) {
  M model(device, read_unet_config(find_unet_config(folder)));
  load_parameters(SafeTensors(find_unet_weights(folder)), model);
  return model;
}

// The scheduler's configuration; that of DDPMScheduler() where the folder has none.
inline SchedulerConfig load_scheduler_config(const std::filesystem::path& folder) {
  const auto path = find_scheduler_config(folder);
  return path ? read_scheduler_config(*path) : SchedulerConfig{};
}

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
  throw ConfigError(message("beta_schedule: found \"", config.beta_schedule,
                            "\", expected linear, scaled_linear, sigmoid or squaredcos_cap_v2"));
}

inline TabulatedSchedule load_schedule(const std::filesystem::path& folder) {
  return schedule_of(load_scheduler_config(folder));
}

inline Prediction prediction_of(const SchedulerConfig& config) {
  if (config.prediction_type == "epsilon") return Prediction::epsilon;
  if (config.prediction_type == "sample") return Prediction::sample;
  if (config.prediction_type == "v_prediction") return Prediction::v;
  throw ConfigError(message("prediction_type: found \"", config.prediction_type,
                            "\", expected epsilon, sample or v_prediction"));
}

// What a Diffusion has to know of the scheduler beside the schedule.
inline DiffusionOptions load_options(const std::filesystem::path& folder) {
  const SchedulerConfig config = load_scheduler_config(folder);
  check<ConfigError>(!config.thresholding, "thresholding: found true, supported is false");
  check<ConfigError>(config.variance_type.starts_with("fixed"), "variance_type: found \"",
                     config.variance_type, "\", supported are fixed_small and fixed_large");
  return {.prediction = prediction_of(config)};
}

// Writes a folder that diffusers loads as a DDPMPipeline (or DDIMPipeline).
template <Model M>
void save_diffusers(const std::filesystem::path& folder, const M& model, const SchedulerConfig& scheduler,
                    const std::map<std::string, std::string>& metadata = {}) {
  std::error_code error;
  for (const char* part : {"unet", "scheduler"}) {
    std::filesystem::create_directories(folder / part, error);
    if (error) detail::fail((folder / part).string(), error.message(), "a folder that can be created");
  }
  save_parameters(folder / "unet" / "diffusion_pytorch_model.safetensors", model, metadata);
  write_unet_config(folder / "unet" / "config.json", model.config());
  write_scheduler_config(folder / "scheduler" / "scheduler_config.json", scheduler);
  const std::string pipeline = scheduler.is_ddim() ? "DDIMPipeline" : "DDPMPipeline";
  detail::write_file((folder / "model_index.json").string(),
                     "{\n  \"_class_name\": \"" + pipeline + "\",\n  \"_diffusers_version\": \"" +
                         std::string(diffusers_version) +
                         "\",\n  \"scheduler\": [\n    \"diffusers\",\n    \"" + scheduler.class_name +
                         "\"\n  ],\n  \"unet\": [\n    \"diffusers\",\n    \"UNet2DModel\"\n  ]\n}\n");
}

}  // namespace ddpm::io
