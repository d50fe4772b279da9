// SPDX-License-Identifier: MIT
// A U-Net with every kind of layer, small enough for the executor.
#pragma once

#include <ddpm/ddpm.cuh>

namespace ddpm::simt {

// Both resamplers, attention, joined inputs, shortcuts, classes, dropout.
inline UNetConfig tiny() {
  UNetConfig config;
  config.in_channels = config.out_channels = 3;
  config.height = config.width = 8;
  config.block_out_channels = {12, 20};
  config.layers_per_block = 1;
  config.norm_num_groups = 4;
  config.attention_head_dim = 10;
  config.down_blocks = {DownBlock::plain, DownBlock::attention};
  config.up_blocks = {UpBlock::attention, UpBlock::plain};
  config.num_class_embeds = 5;
  config.dropout = 0.1;
  return config;
}

// Weights of a network that has trained for a while: those that start at zero would hide what they multiply.
template <class T = float, class D>
UNet<T, D> trained_net(const D& device, const UNetConfig& config = tiny()) {
  UNet<T, D> net(device, config, Rng{5});
  const auto values = net.parameters().values();
  const Tensor<float, D> noise(device, values.shape());
  fill_normal(RandomPosition{9, 0, 0, RandomStream::parameter_init},
              noise.view().reshaped({1, noise.numel()}));
  auto host = values.to_host();
  const auto random = noise.to_host();
  for (std::size_t i = 0; i < host.size(); ++i) host[i] += 0.05f * random[i];
  values.upload(host);
  net.parameters().changed();
  return net;
}

// Seven images of 8 x 8 x 3, of five classes.
inline ImageSet tiny_images() {
  ImageSet images{{}, {}, 7, 8, 8, 3};
  for (std::int64_t i = 0; i < images.count * images.image_size(); ++i)
    images.pixels.push_back(static_cast<std::uint8_t>(i * i * 31 % 251));
  for (int i = 0; i < 7; ++i) images.labels.push_back(i % 5);
  return images;
}

}  // namespace ddpm::simt
