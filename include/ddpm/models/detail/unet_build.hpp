// SPDX-License-Identifier: MIT
// How a UNet is checked, put together and walked. Included by ddpm/models/unet.hpp.
#pragma once

#include <ddpm/models/unet.hpp>

namespace ddpm {

template <Element T, Device D>
const UNetConfig& UNet<T, D>::validated(const UNetConfig& config) {
  const int levels = config.levels();
  check<ConfigError>(levels >= 1, "UNet: block_out_channels is empty");
  check<ConfigError>(static_cast<int>(config.down_blocks.size()) == levels &&
                         static_cast<int>(config.up_blocks.size()) == levels,
                     "UNet: ", config.down_blocks.size(), " down blocks and ", config.up_blocks.size(),
                     " up blocks given for ", levels, " levels");
  check<ConfigError>(config.in_channels >= 1 && config.out_channels >= 1 && config.layers_per_block >= 1,
                     "UNet: in_channels ", config.in_channels, ", out_channels ", config.out_channels,
                     " and layers_per_block ", config.layers_per_block, " must be at least 1");
  check<ConfigError>(config.norm_num_groups >= 1, "UNet: norm_num_groups is ", config.norm_num_groups,
                     ", expected at least 1");
  for (const int channels : config.block_out_channels)
    check<ConfigError>(channels >= 1 && channels % config.norm_num_groups == 0, "UNet: ", channels,
                       " channels are not divisible by ", config.norm_num_groups, " groups");
  check<ConfigError>(config.downsample_padding == 0 || config.downsample_padding == 1,
                     "UNet: downsample_padding is ", config.downsample_padding, ", supported are 0 and 1");
  check<ConfigError>(config.dropout >= 0 && config.dropout < 1, "UNet: dropout is ", config.dropout,
                     ", expected a probability below 1");
  check<ConfigError>(config.mid_block_scale_factor > 0, "UNet: mid_block_scale_factor is ",
                     config.mid_block_scale_factor, ", expected a positive number");
  return config;
}

template <Element T, Device D>
void UNet<T, D>::build_down() {
  int in = width(0);
  for (int level = 0; level < config_.levels(); ++level) {
    Level& block = down_.emplace_back();
    const int out = width(level);
    for (int layer = 0; layer < config_.layers_per_block; ++layer) {
      if (config_.down_blocks[static_cast<std::size_t>(level)] == DownBlock::attention)
        block.attentions.emplace_back(parameters_, attention_config(out));
      block.resnets.emplace_back(parameters_, resnet_config(layer == 0 ? in : out, out));
    }
    // Padding 0 of diffusers means one row and column of zeros after the last and none before the first.
    if (level + 1 < config_.levels())
      block.resampler.emplace(
          parameters_,
          Conv2dConfig{.in = out,
                       .out = out,
                       .options = {.stride = 2, .pad_begin = config_.downsample_padding, .pad_end = 1}});
    in = out;
  }
}

template <Element T, Device D>
void UNet<T, D>::build_middle() {
  const int channels = width(config_.levels() - 1);
  const double rescale = config_.mid_block_scale_factor;
  ResnetConfig resnet = resnet_config(channels, channels);
  resnet.rescale = rescale;
  middle_resnets_.emplace_back(parameters_, resnet);
  if (config_.add_attention) {
    AttentionConfig attention = attention_config(channels);
    attention.rescale = rescale;
    // With scale_shift embeddings the middle attention is normalised only if its groups are named (diffusers
    // >= 0.22).
    const bool adds = config_.resnet_time_scale_shift == TimeScaleShift::add;
    attention.groups = config_.attn_norm_num_groups.value_or(adds ? config_.norm_num_groups : 0);
    middle_attention_.emplace(parameters_, attention);
  }
  middle_resnets_.emplace_back(parameters_, resnet);
}

template <Element T, Device D>
void UNet<T, D>::build_up() {
  const int levels = config_.levels();
  int in = width(levels - 1);
  for (int i = 0; i < levels; ++i) {
    Level& block = up_.emplace_back();
    const int out = width(levels - 1 - i);
    const int next =
        width(std::max(levels - 2 - i, 0));  // channels of the skip that the level below the last pushed
    for (int layer = 0; layer <= config_.layers_per_block; ++layer) {
      const int skip = layer == config_.layers_per_block ? next : out;
      if (config_.up_blocks[static_cast<std::size_t>(i)] == UpBlock::attention)
        block.attentions.emplace_back(parameters_, attention_config(out));
      block.resnets.emplace_back(parameters_, resnet_config((layer == 0 ? in : out) + skip, out));
    }
    if (i + 1 < levels)
      block.resampler.emplace(parameters_, Conv2dConfig{.in = out, .out = out, .options = {.upsample = 2}});
    in = out;
  }
}

template <Element T, Device D>
template <class F>
void UNet<T, D>::visit(const std::string& prefix, F&& f) const {
  const auto level = [&](const std::string& name, const Level& block, const char* resampler) {
    for (std::size_t i = 0; i < block.attentions.size(); ++i)
      block.attentions[i].visit(name + "attentions." + std::to_string(i) + ".", f);
    for (std::size_t i = 0; i < block.resnets.size(); ++i)
      block.resnets[i].visit(name + "resnets." + std::to_string(i) + ".", f);
    if (block.resampler) block.resampler->visit(name + resampler + ".0.conv.", f);
  };
  conv_in_.visit(prefix + "conv_in.", f);
  time_embedding_.visit(prefix + "time_embedding.", f);
  if (!class_embedding_.empty()) f(prefix + "class_embedding.weight", class_embedding_);
  for (std::size_t i = 0; i < down_.size(); ++i)
    level(prefix + "down_blocks." + std::to_string(i) + ".", down_[i], "downsamplers");
  for (std::size_t i = 0; i < up_.size(); ++i)
    level(prefix + "up_blocks." + std::to_string(i) + ".", up_[i], "upsamplers");
  if (middle_attention_) middle_attention_->visit(prefix + "mid_block.attentions.0.", f);
  for (std::size_t i = 0; i < middle_resnets_.size(); ++i)
    middle_resnets_[i].visit(prefix + "mid_block.resnets." + std::to_string(i) + ".", f);
  norm_out_.visit(prefix + "conv_norm_out.", f);
  conv_out_.visit(prefix + "conv_out.", f);
}

}  // namespace ddpm
