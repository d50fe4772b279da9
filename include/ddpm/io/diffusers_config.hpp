// SPDX-License-Identifier: MIT
// UNetConfig from and to the config.json of a diffusers UNet2DModel; a model this library cannot compute is
// refused.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/config_reader.hpp>
#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/detail/json.hpp>
#include <ddpm/models/unet_config.hpp>

namespace ddpm::io {

inline constexpr std::string_view diffusers_version = "0.27.2";  // whose layout the written files have

namespace detail {

// A list as long as block_out_channels, each element read by `read`.
template <class Element, class Read>
std::vector<Element> per_level(ConfigReader& reader, const std::string& key,
                               const std::vector<Element>& absent, Read read) {
  const Json* value = reader.find(key);
  if (value == nullptr) return absent;
  if (!value->is_array() || value->empty()) reader.refuse(key, *value, "a list with one entry per level");
  std::vector<Element> list;
  for (const Json& element : *value) list.push_back(read(element));
  return list;
}

inline void read_levels(ConfigReader& reader, UNetConfig& config) {
  config.block_out_channels =
      per_level(reader, "block_out_channels", config.block_out_channels,
                [&](const Json& v) { return reader.as_integer("block_out_channels", v, 1); });
  config.down_blocks = per_level(reader, "down_block_types", config.down_blocks, [&](const Json& v) {
    const std::string name = reader.as_choice("down_block_types", v, {"DownBlock2D", "AttnDownBlock2D"});
    return name == "DownBlock2D" ? DownBlock::plain : DownBlock::attention;
  });
  config.up_blocks = per_level(reader, "up_block_types", config.up_blocks, [&](const Json& v) {
    const std::string name = reader.as_choice("up_block_types", v, {"UpBlock2D", "AttnUpBlock2D"});
    return name == "UpBlock2D" ? UpBlock::plain : UpBlock::attention;
  });
  const std::size_t levels = config.block_out_channels.size();
  if (config.down_blocks.size() != levels || config.up_blocks.size() != levels)
    throw ConfigError(message(reader.where(), ": down_block_types has ", config.down_blocks.size(),
                              " entries and up_block_types ", config.up_blocks.size(), ", expected ", levels,
                              " as in block_out_channels"));
  const Json* width = reader.find("time_embedding_dim");
  if (width != nullptr && !width->is_null() && *width != config.time_embedding_dim())
    reader.refuse(
        "time_embedding_dim", *width,
        message("null or ", config.time_embedding_dim(), ", four times the first level's channels"));
}

inline void read_sample_size(ConfigReader& reader, UNetConfig& config) {
  const Json* value = reader.find("sample_size");
  if (value == nullptr || value->is_null()) return;
  if (value->is_array()) {
    if (value->size() != 2) reader.refuse("sample_size", *value, "an integer, [height, width] or null");
    config.height = reader.as_integer("sample_size", value->at(0), 1);
    config.width = reader.as_integer("sample_size", value->at(1), 1);
  } else {
    config.height = config.width = reader.as_integer("sample_size", *value, 1);
  }
}

// Keys that diffusers has and this library supports in one way only.
inline void refuse_variants(ConfigReader& reader) {
  reader.choice("_class_name", {"UNet2DModel"});
  reader.choice("time_embedding_type", {"positional"});
  reader.choice("mid_block_type", {"UNetMidBlock2D"});
  reader.choice("downsample_type", {"conv"});
  reader.choice("upsample_type", {"conv"});
  reader.choice("act_fn", {"silu", "swish"});
  reader.find("num_train_timesteps");  // of learned time embeddings, which are refused
  const Json* kind = reader.find("class_embed_type");
  if (kind != nullptr && !kind->is_null())
    reader.refuse("class_embed_type", *kind, "null (num_class_embeds gives class embeddings)");
}

inline void read_numbers(ConfigReader& reader, UNetConfig& config) {
  const auto is_positive = [](double v) { return v > 0; };
  const auto is_any = [](double) { return true; };
  config.in_channels = reader.integer("in_channels", config.in_channels, 1);
  config.out_channels = reader.integer("out_channels", config.out_channels, 1);
  config.center_input_sample = reader.boolean("center_input_sample", config.center_input_sample);
  config.freq_shift = reader.number("freq_shift", config.freq_shift, is_any, "a number");
  config.flip_sin_to_cos = reader.boolean("flip_sin_to_cos", config.flip_sin_to_cos);
  config.layers_per_block = reader.integer("layers_per_block", config.layers_per_block, 1);
  config.mid_block_scale_factor = reader.number("mid_block_scale_factor", config.mid_block_scale_factor,
                                                is_positive, "a positive number");
  config.downsample_padding = reader.integer("downsample_padding", config.downsample_padding, 0, 1);
  config.dropout = reader.number(
      "dropout", config.dropout, [](double v) { return v >= 0 && v < 1; }, "a probability below 1");
  config.attention_head_dim = reader.optional_integer("attention_head_dim", config.attention_head_dim, 1);
  config.norm_num_groups = reader.integer("norm_num_groups", config.norm_num_groups, 1);
  config.attn_norm_num_groups =
      reader.optional_integer("attn_norm_num_groups", config.attn_norm_num_groups, 1);
  config.norm_eps = reader.number("norm_eps", config.norm_eps, is_positive, "a positive number");
  config.resnet_time_scale_shift =
      reader.choice("resnet_time_scale_shift", {"default", "scale_shift"}) == "default"
          ? TimeScaleShift::add
          : TimeScaleShift::scale_shift;
  config.add_attention = reader.boolean("add_attention", config.add_attention);
  config.num_class_embeds = reader.optional_integer("num_class_embeds", std::nullopt, 1).value_or(0);
}

inline void check_divides(int divisor, int channels, std::string_view key, const std::string& where) {
  check<ConfigError>(channels % divisor == 0, where, ": ", key, " is ", divisor,
                     ", expected a divisor of the ", channels, " channels in block_out_channels");
}

// What no key shows by itself.
inline void check_together(const UNetConfig& config, const std::string& where) {
  for (const int channels : config.block_out_channels)
    check_divides(config.norm_num_groups, channels, "norm_num_groups", where);
  const int last = config.block_out_channels.back();
  if (config.attn_norm_num_groups)
    check_divides(*config.attn_norm_num_groups, last, "attn_norm_num_groups", where);
  const std::size_t levels = config.block_out_channels.size();
  for (std::size_t i = 0; i < levels; ++i) {
    const bool attends = config.down_blocks[i] == DownBlock::attention ||
                         config.up_blocks[levels - 1 - i] == UpBlock::attention ||
                         (config.add_attention && i == levels - 1);
    if (attends && config.attention_head_dim)
      check_divides(*config.attention_head_dim, config.block_out_channels[i], "attention_head_dim", where);
  }
  const int half = config.block_out_channels.front() / 2;
  check<ConfigError>(config.freq_shift < half, where, ": freq_shift is ", config.freq_shift,
                     ", expected less than half the first of block_out_channels, ", half);
}

}  // namespace detail

// Keys that are absent have the defaults of diffusers 0.27.2: an absent attention_head_dim is 8, only an
// explicit null is one head. `where` names the source in messages.
inline UNetConfig parse_unet_config(std::string_view json, const std::string& where = "config.json") {
  detail::ConfigReader reader(json, where);
  UNetConfig config;
  detail::refuse_variants(reader);
  detail::read_sample_size(reader, config);
  detail::read_levels(reader, config);
  detail::read_numbers(reader, config);
  reader.refuse_unknown_keys();
  detail::check_together(config, where);
  return config;
}

inline UNetConfig read_unet_config(const std::filesystem::path& path) {
  return parse_unet_config(detail::read_text(path.string(), detail::longest_config), path.string());
}

// All keys, in the order in which diffusers writes them.
inline std::string unet_config_json(const UNetConfig& config) {
  using Json = detail::OrderedJson;
  const auto or_null = [](std::optional<int> value) { return value ? Json(*value) : Json(nullptr); };
  Json down = Json::array(), up = Json::array();
  for (const DownBlock block : config.down_blocks)
    down.push_back(block == DownBlock::plain ? "DownBlock2D" : "AttnDownBlock2D");
  for (const UpBlock block : config.up_blocks)
    up.push_back(block == UpBlock::plain ? "UpBlock2D" : "AttnUpBlock2D");
  Json json;
  json["_class_name"] = "UNet2DModel";
  json["_diffusers_version"] = diffusers_version;
  json["sample_size"] = config.height == 0              ? Json(nullptr)
                        : config.height == config.width ? Json(config.height)
                                                        : Json::array({config.height, config.width});
  json["in_channels"] = config.in_channels;
  json["out_channels"] = config.out_channels;
  json["center_input_sample"] = config.center_input_sample;
  json["time_embedding_type"] = "positional";
  json["freq_shift"] = detail::whole_or_number(config.freq_shift);
  json["flip_sin_to_cos"] = config.flip_sin_to_cos;
  json["down_block_types"] = down;
  json["up_block_types"] = up;
  json["block_out_channels"] = config.block_out_channels;
  json["layers_per_block"] = config.layers_per_block;
  json["mid_block_scale_factor"] = detail::whole_or_number(config.mid_block_scale_factor);
  json["downsample_padding"] = config.downsample_padding;
  json["downsample_type"] = "conv";
  json["upsample_type"] = "conv";
  json["dropout"] = config.dropout;
  json["act_fn"] = "silu";
  json["attention_head_dim"] = or_null(config.attention_head_dim);
  json["norm_num_groups"] = config.norm_num_groups;
  json["attn_norm_num_groups"] = or_null(config.attn_norm_num_groups);
  json["norm_eps"] = config.norm_eps;
  json["resnet_time_scale_shift"] =
      config.resnet_time_scale_shift == TimeScaleShift::add ? "default" : "scale_shift";
  json["add_attention"] = config.add_attention;
  json["class_embed_type"] = nullptr;
  json["num_class_embeds"] = config.num_class_embeds == 0 ? Json(nullptr) : Json(config.num_class_embeds);
  json["num_train_timesteps"] = nullptr;
  return detail::dump_json(json, 2, "config.json") + "\n";
}

inline void write_unet_config(const std::filesystem::path& path, const UNetConfig& config) {
  detail::write_file(path.string(), unet_config_json(config));
}

}  // namespace ddpm::io
