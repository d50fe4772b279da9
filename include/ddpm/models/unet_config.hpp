// SPDX-License-Identifier: MIT
// UNetConfig: the shape of a U-Net, with the names and the defaults of diffusers' UNet2DModel.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/nn/time_scale_shift.hpp>

namespace ddpm {

enum class DownBlock { plain, attention };  // DownBlock2D, AttnDownBlock2D
enum class UpBlock { plain, attention };    // UpBlock2D, AttnUpBlock2D

// A default-constructed value is UNet2DModel() with every argument left out.
struct UNetConfig {
  int height = 0;  // sample_size; 0: unknown, any size the levels divide is accepted
  int width = 0;
  int in_channels = 3;
  int out_channels = 3;
  bool center_input_sample = false;
  double freq_shift = 0;
  bool flip_sin_to_cos = true;
  std::vector<DownBlock> down_blocks = {DownBlock::plain, DownBlock::attention, DownBlock::attention,
                                        DownBlock::attention};
  std::vector<UpBlock> up_blocks = {UpBlock::attention, UpBlock::attention, UpBlock::attention,
                                    UpBlock::plain};
  std::vector<int> block_out_channels = {224, 448, 672, 896};
  int layers_per_block = 2;  // up blocks have one more
  double mid_block_scale_factor = 1;
  int downsample_padding = 1;  // 0: one row and column of zeros after the last, none before the first
  double dropout = 0;
  std::optional<int> attention_head_dim = 8;  // empty: one head of all channels
  int norm_num_groups = 32;
  std::optional<int> attn_norm_num_groups;  // of the middle attention; empty: norm_num_groups
  double norm_eps = 1e-5;
  TimeScaleShift resnet_time_scale_shift = TimeScaleShift::add;
  bool add_attention = true;  // in the middle block
  int num_class_embeds = 0;   // 0: not class-conditional

  int levels() const { return static_cast<int>(block_out_channels.size()); }
  int time_embedding_dim() const { return 4 * block_out_channels.front(); }

  // google/ddpm-cifar10-32: 328 tensors, 35,746,307 parameters.
  static UNetConfig cifar10();
  // 28x28 gray images, sized for ten minutes of training on two CPU cores.
  static UNetConfig fashion_mnist();

  friend bool operator==(const UNetConfig&, const UNetConfig&) = default;
};

inline UNetConfig UNetConfig::cifar10() {
  UNetConfig config;
  config.height = config.width = 32;
  config.block_out_channels = {128, 256, 256, 256};
  config.down_blocks = {DownBlock::plain, DownBlock::attention, DownBlock::plain, DownBlock::plain};
  config.up_blocks = {UpBlock::plain, UpBlock::plain, UpBlock::attention, UpBlock::plain};
  config.attention_head_dim.reset();
  config.norm_eps = 1e-6;
  config.downsample_padding = 0;
  config.flip_sin_to_cos = false;
  config.freq_shift = 1;
  return config;
}

inline UNetConfig UNetConfig::fashion_mnist() {
  UNetConfig config;
  config.height = config.width = 28;
  config.in_channels = config.out_channels = 1;
  config.block_out_channels = {32, 64, 64};
  config.down_blocks = {DownBlock::plain, DownBlock::plain, DownBlock::attention};
  config.up_blocks = {UpBlock::attention, UpBlock::plain, UpBlock::plain};
  config.layers_per_block = 1;
  config.attention_head_dim.reset();
  config.norm_num_groups = 8;
  return config;
}

}  // namespace ddpm
