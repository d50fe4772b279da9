// SPDX-License-Identifier: MIT
// Compares a device with every fixture under some folders.
#pragma once

#include <set>

#include "ops.hpp"
#include "schedulers.hpp"
#include "unet.hpp"

namespace golden {

template <class D>
struct Kind {
  std::string prefix;  // of the file's name; the first that fits is taken
  void (*check)(const Fixture<D>&);
  bool is_of_unet = false;
};

template <class T, class D>
const std::vector<Kind<D>>& kinds() {
  static const std::vector<Kind<D>> all = {
      {"conv", check_conv<D>},
      {"gn_", check_group_norm<D>},
      {"linear", check_linear<D>},
      {"silu", check_pointwise<D>},
      {"softmax", check_pointwise<D>},
      {"upsample_nearest", check_pointwise<D>},
      {"attention", check_attention<D>},
      {"resnet", check_resnet<D>},
      {"timestep_mlp", check_timestep_mlp<D>},
      {"timestep_embedding", check_timestep_embedding<D>},
      {"upsample2d", check_resampler<D>},
      {"downsample2d", check_resampler<D>},
      {"schedules", check_schedules<D>},
      {"timesteps", check_timesteps<D>},
      {"ddpm_step", check_steps<D>},
      {"ddim_step", check_steps<D>},
      {"add_noise", check_add_noise<D>},
      {"ddim", check_trajectory<D>},
      {"ddpm", check_trajectory<D>},
      {"io", check_unet<T, D>, true},
  };
  return all;
}

// Read together with the io.safetensors beside them.
inline bool is_companion(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  return (name == "grads.safetensors" || name == "adamw3.safetensors") &&
         std::filesystem::exists(path.parent_path() / "io.safetensors");
}

// Of another T than float, U-Nets alone: over the steps of a trajectory, roundings add up without a bound.
template <class T, class D>
void check_file(const std::filesystem::path& path, const D& device, const Limits& limits, Report& report) {
  const std::string name = path.stem().string();
  try {
    if (name.starts_with("diffusion_pytorch_model")) return count_parameters<T>(path, device);
    if (is_companion(path)) return;
    for (const Kind<D>& kind : kinds<T, D>()) {
      if (!name.starts_with(kind.prefix)) continue;
      if (std::is_same_v<T, float> || kind.is_of_unet) kind.check(Fixture<D>(path, device, limits, report));
      return;
    }
    report.failure(path.string(), "a fixture of no known kind");
  } catch (const std::exception& error) {
    report.failure(path.string(), error.what());
  }
}

// Exit status: 0 if all are within their limits, else 1.
template <class T, class D>
int check_folders(const std::vector<std::string>& folders, const D& device, const Limits& limits) {
  Report report;
  std::set<std::filesystem::path> files;
  for (const std::string& folder : folders) {
    if (!std::filesystem::is_directory(folder)) {
      report.failure(folder, "is no folder");
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
      if (entry.is_regular_file() && entry.path().extension() == ".safetensors") files.insert(entry.path());
  }
  for (const auto& file : files) check_file<T>(file, device, limits, report);
  std::printf("%d passed, %d failed\n", report.passed(), report.failed());
  return report.failed() == 0 && report.passed() > 0 ? 0 : 1;
}

}  // namespace golden
