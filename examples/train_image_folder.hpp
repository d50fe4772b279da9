// SPDX-License-Identifier: MIT
// Trains on a folder of PNG and JPEG files, as a run that can be interrupted and resumed.
#pragma once

#include "target.hpp"

#include <ddpm/io.hpp>

namespace example {

using namespace ddpm;

struct Options {
  Target target;
  std::filesystem::path data, held_out;
  io::ImageFolderOptions images = {.size = 32};
  std::vector<int> channels = {128, 256, 256, 256};
  bool labels = false, flip = false, recompute = false, roll_back = false, skip_bad = false;
  double dropout = 0;
  int batch = 32;
  std::uint64_t seed = 42;
  TrainerOptions trainer = {.lr = {.peak = 1e-4, .warmup = 500}};
  io::RunOptions run;
};

// Attention where images are 16 pixels high, as in Ho et al. 2020.
inline UNetConfig config_for(const Options& o, int classes) {
  UNetConfig config = UNetConfig::cifar10();
  config.height = config.width = o.images.size;
  config.in_channels = config.out_channels = o.images.channels;
  config.block_out_channels = o.channels;
  config.dropout = o.dropout;
  config.num_class_embeds = classes;
  config.down_blocks.clear();
  config.up_blocks.clear();
  for (std::size_t level = 0; level < o.channels.size(); ++level) {
    const bool attends = o.images.size >> level == 16;
    config.down_blocks.push_back(attends ? DownBlock::attention : DownBlock::plain);
    config.up_blocks.insert(config.up_blocks.begin(), attends ? UpBlock::attention : UpBlock::plain);
  }
  return config;
}

template <Element T, Device D>
int run(const Options& o, const D& device) {
  const Rng rng{o.seed};
  io::ImageFolder folder = io::image_folder(o.data, o.images);
  for (const std::string& reason : folder.skipped) std::fprintf(stderr, "left out: %s\n", reason.c_str());
  const int classes = o.labels ? static_cast<int>(folder.classes.size()) : 0;
  Loader loader{
      std::move(folder.images), device, {.batch = o.batch, .classes = classes, .flip = o.flip}, rng};
  Diffusion diffusion{
      UNet<T, D>{device, config_for(o, classes), rng}, LinearSchedule{}, {.recompute = o.recompute}};
  Trainer trainer{diffusion, loader, o.trainer, rng};
  io::RunHooks hooks;
  std::optional<Loader<float, D>> held_out;
  if (!o.held_out.empty()) {
    held_out.emplace(io::image_folder(o.held_out, o.images).images, device,
                     LoaderOptions{.batch = o.batch, .classes = classes}, rng);
    const auto batches = static_cast<int>(std::max<std::int64_t>(1, held_out->images().count / o.batch));
    hooks.held_out_loss = [&, batches] {
      return held_out_loss(diffusion, trainer.best_model(), *held_out, batches);
    };
  }
  return io::train(trainer, o.run, hooks);
}

}  // namespace example
