// SPDX-License-Identifier: MIT
// Where a diffusers folder keeps its files, in the flat and in the pipeline layout, and the tensor names of
// old ones.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/file.hpp>

namespace ddpm::io {

namespace detail {

inline bool is_file(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

}  // namespace detail

// unet/config.json where the folder is a saved pipeline, config.json where it is a model alone.
inline std::filesystem::path find_unet_config(const std::filesystem::path& folder) {
  for (const std::filesystem::path& candidate : {folder / "unet" / "config.json", folder / "config.json"})
    if (detail::is_file(candidate)) return candidate;
  detail::fail(folder.string(), "neither unet/config.json nor config.json",
               detail::is_file(folder / "model_index.json") ? "the UNet2DModel of this pipeline"
                                                            : "a folder saved by diffusers");
}

// The weights beside that configuration: the first of the names under which diffusers saves them.
inline std::filesystem::path find_unet_weights(const std::filesystem::path& folder) {
  const std::filesystem::path home = find_unet_config(folder).parent_path();
  for (const char* suffix :
       {".safetensors", ".safetensors.index.json", ".bin", ".fp16.safetensors", ".fp16.bin"}) {
    std::filesystem::path candidate = home / (std::string("diffusion_pytorch_model") + suffix);
    if (detail::is_file(candidate)) return candidate;
  }
  detail::fail(
      home.string(), "no weights",
      "diffusion_pytorch_model.safetensors, the same with .index.json, or diffusion_pytorch_model.bin");
}

inline std::optional<std::filesystem::path> find_scheduler_config(const std::filesystem::path& folder) {
  for (const std::filesystem::path& candidate :
       {folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json"})
    if (detail::is_file(candidate)) return candidate;
  return std::nullopt;
}

// Checkpoints from before diffusers 0.17 name the projections of attention query, key, value and proj_attn.
inline std::string canonical_name(std::string name) {
  const std::size_t last = name.rfind('.');
  if (last == std::string::npos || last == 0 || name.find("attentions.") == std::string::npos) return name;
  const std::size_t before = name.rfind('.', last - 1);
  const std::size_t start = before == std::string::npos ? 0 : before + 1;
  const std::string_view layer = std::string_view(name).substr(start, last - start);
  const std::string_view renamed = layer == "query"       ? "to_q"
                                   : layer == "key"       ? "to_k"
                                   : layer == "value"     ? "to_v"
                                   : layer == "proj_attn" ? "to_out.0"
                                                          : layer;
  return name.substr(0, start).append(renamed).append(name, last);
}

}  // namespace ddpm::io
