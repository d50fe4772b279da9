// SPDX-License-Identifier: MIT
// Weights: the tensors of a model, out of any file in which diffusers keeps them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/detail/json.hpp>
#include <ddpm/io/safetensors.hpp>
#include <ddpm/io/tensor_set.hpp>
#include <ddpm/io/torch_bin.hpp>

namespace ddpm::io {

class Weights : public TensorSet {
 public:
  // A .safetensors file, the .safetensors.index.json beside several, or a .bin file of torch.
  explicit Weights(const std::filesystem::path& path) : TensorSet(path.string()) {
    if (path.extension() == ".json")
      open_shards(path);
    else if (path.extension() == ".bin")
      take(files_.emplace_back(std::in_place_type<TorchBin>, path));
    else
      take(files_.emplace_back(std::in_place_type<SafeTensors>, path));
  }

 private:
  using File = std::variant<SafeTensors, TorchBin>;

  void take(const File& file) {
    std::visit(
        [&](const TensorSet& set) {
          for (const std::string& name : set.names()) add(name, set.tensor(name));
        },
        file);
  }

  // The index maps the name of every tensor to the file, in the same folder, that holds it.
  void open_shards(const std::filesystem::path& index) {
    const detail::Json json =
        detail::parse_json_object(detail::read_text(path(), detail::longest_config), path());
    const auto map = json.find("weight_map");
    if (map == json.end() || !map->is_object())
      detail::fail(path(), "no object weight_map", "the file of every tensor");
    std::map<std::string, std::set<std::string>> shards;  // file name -> tensors
    for (const auto& [tensor, file] : map->items()) {
      if (!file.is_string() || !is_shard_name(file.get_ref<const std::string&>()))
        detail::fail(path(), message(detail::shown(file), " as the file of ", detail::in_quotes(tensor)),
                     "the name of a .safetensors file in the same folder");
      shards[file.get<std::string>()].insert(tensor);
    }
    files_.reserve(shards.size());
    for (const auto& [file, tensors] : shards) {
      const File& shard = files_.emplace_back(std::in_place_type<SafeTensors>, index.parent_path() / file);
      for (const std::string& name : tensors)
        if (!std::get<SafeTensors>(shard).contains(name))
          detail::fail(path(), message("no ", detail::in_quotes(name), " in ", file),
                       "it, as the index says");
      take(shard);
    }
  }

  static bool is_shard_name(const std::string& name) {
    return name.ends_with(".safetensors") && name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
  }

  std::vector<File> files_;
};

}  // namespace ddpm::io
