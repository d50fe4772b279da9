// SPDX-License-Identifier: MIT
// Checkpoint folders of diffusers: a UNet2DModel and its scheduler, read and written.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <system_error>

#include <ddpm/diffusion/diffusion.hpp>
#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/diffusers_config.hpp>
#include <ddpm/io/diffusers_folder.hpp>
#include <ddpm/io/parameters.hpp>
#include <ddpm/io/scheduler.hpp>
#include <ddpm/io/scheduler_config.hpp>
#include <ddpm/io/weights.hpp>
#include <ddpm/models/unet.hpp>
#include <ddpm/version.hpp>

namespace ddpm::io {

// The model of a folder that diffusers or save_diffusers() wrote: M is a UNet. The folder is that of a
// pipeline or that of a model alone, such as the unet_ema that training scripts of diffusers leave. Old
// attention names are accepted. Throws a ConfigError for a model this library cannot compute, an IoError for
// weights that do not fit.
template <Model M>
M load_diffusers(const std::filesystem::path& folder, const typename M::device_type& device) {
  M model(device, read_unet_config(find_unet_config(folder)));
  load_parameters(Weights(find_unet_weights(folder)), model);
  return model;
}

// The scheduler's configuration; that of DDPMScheduler() where the folder has none.
inline SchedulerConfig load_scheduler_config(const std::filesystem::path& folder) {
  const auto path = find_scheduler_config(folder);
  return path ? read_scheduler_config(*path) : SchedulerConfig{};
}

inline TabulatedSchedule load_schedule(const std::filesystem::path& folder) {
  return schedule_of(load_scheduler_config(folder));
}

// What a Diffusion has to know of the scheduler beside the schedule.
inline DiffusionOptions load_options(const std::filesystem::path& folder) {
  return {.prediction = prediction_of(load_scheduler_config(folder))};
}

// What a checkpoint says of itself, in the metadata of its weights, beside the version of this library.
struct CheckpointInfo {
  std::optional<std::int64_t> step = {};       // of training
  std::array<double, 2> data_range = {-1, 1};  // of the images it was trained on
};

namespace detail {

inline std::map<std::string, std::string> checkpoint_metadata(const CheckpointInfo& info) {
  std::map<std::string, std::string> metadata{
      {"library_version", message(version.major, '.', version.minor, '.', version.patch)},
      {"data_range", message('[', info.data_range[0], ", ", info.data_range[1], ']')}};
  if (info.step) metadata.emplace("step", std::to_string(*info.step));
  return metadata;
}

inline std::string model_index_json(const SchedulerConfig& scheduler) {
  OrderedJson json;
  json["_class_name"] = scheduler.is_ddim() ? "DDIMPipeline" : "DDPMPipeline";
  json["_diffusers_version"] = diffusers_version;
  json["scheduler"] = {"diffusers", scheduler.class_name};
  json["unet"] = {"diffusers", "UNet2DModel"};
  return dump_json(json, 2, "model_index.json") + "\n";
}

}  // namespace detail

// Writes a folder that diffusers loads as a DDPMPipeline (or DDIMPipeline). No file is replaced before all
// are written, so a full disk leaves an older checkpoint as it was.
template <Model M>
void save_diffusers(const std::filesystem::path& folder, const M& model, const SchedulerConfig& scheduler,
                    const CheckpointInfo& info = {}) {
  const std::string scheduler_json = scheduler_config_json(scheduler);
  std::error_code error;
  for (const char* part : {"unet", "scheduler"}) {
    std::filesystem::create_directories(folder / part, error);
    if (error) detail::fail((folder / part).string(), error.message(), "a folder that can be created");
  }
  std::array<detail::FileWriter, 4> files{
      detail::FileWriter((folder / "unet" / "diffusion_pytorch_model.safetensors").string()),
      detail::FileWriter((folder / "unet" / "config.json").string()),
      detail::FileWriter((folder / "scheduler" / "scheduler_config.json").string()),
      detail::FileWriter((folder / "model_index.json").string())};
  detail::write_parameters(files[0], model, detail::checkpoint_metadata(info));
  files[1].write(unet_config_json(model.config()));
  files[2].write(scheduler_json);
  files[3].write(detail::model_index_json(scheduler));
  for (detail::FileWriter& file : files) file.flush();
  for (detail::FileWriter& file : files) file.commit();
}

}  // namespace ddpm::io
