// SPDX-License-Identifier: MIT
// A tiny training run with everything switched on: a U-Net with dropout and attention, flips, labels, accumulation, two
// averages, evaluation; a step takes milliseconds.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <utility>
#include <vector>

#include <ddpm/ddpm.hpp>
#include <ddpm/io/training_run.hpp>

namespace train_support {

inline ddpm::ImageSet tiny_images(int count, unsigned seed) {
  ddpm::ImageSet images;
  images.count = count;
  images.height = images.width = 4;
  images.channels = 1;
  for (int i = 0; i < count * 16; ++i) {
    seed = seed * 1664525u + 1013904223u;
    images.pixels.push_back(static_cast<std::uint8_t>(seed >> 24));
  }
  for (int i = 0; i < count; ++i) images.labels.push_back(i % 3);
  return images;
}

inline ddpm::UNetConfig tiny_config() {
  ddpm::UNetConfig config;
  config.height = config.width = 4;
  config.in_channels = config.out_channels = 1;
  config.block_out_channels = {4, 8};
  config.down_blocks = {ddpm::DownBlock::plain, ddpm::DownBlock::attention};
  config.up_blocks = {ddpm::UpBlock::attention, ddpm::UpBlock::plain};
  config.layers_per_block = 1;
  config.norm_num_groups = 2;
  config.attention_head_dim = 4;
  config.dropout = 0.2;
  config.num_class_embeds = 3;
  return config;
}

struct TinyOptions {
  ddpm::TrainerOptions trainer = {
      .lr = {.peak = 1e-2, .warmup = 4}, .accumulate = 3, .ema = {0.9, 0.5}, .averages = {.warmup = true}};
  int batch = 4;  // of 22 images: epochs end within batches
  std::uint64_t seed = 7;
};

// A loader that says when a batch is asked for.
struct TinyBatches : ddpm::Loader<float, ddpm::Cpu> {
  using Loader::Loader;
  std::function<void()> on_next = {};

  auto next() {
    if (on_next) on_next();
    return Loader::next();
  }
};

// The parts of a run, which borrow from each other.
template <class T>
struct TinyRunOf {
  using Net = ddpm::UNet<T, ddpm::Cpu>;
  using Batches = TinyBatches;
  using Schedule = ddpm::LinearSchedule;

  explicit TinyRunOf(const TinyOptions& options = {})
      : loader(tiny_images(22, 1), ddpm::Cpu{}, {.batch = options.batch, .classes = 3, .flip = true},
               {options.seed}),
        held_out(tiny_images(8, 2), ddpm::Cpu{}, {.batch = 4, .classes = 3}, {options.seed}),
        diffusion(Net(ddpm::Cpu{}, tiny_config(), {options.seed}), Schedule{}),
        trainer(diffusion, loader, options.trainer, {options.seed}) {}
  TinyRunOf(const TinyRunOf&) = delete;

  // Saves, evaluates and samples at steps that do not divide each other.
  static ddpm::io::RunOptions options(const std::filesystem::path& out, std::int64_t steps) {
    ddpm::io::RunOptions o;
    o.out = out;
    o.steps = steps;
    o.log_every = 2;
    o.save_every = 3;
    o.evaluate_every = 2;
    o.sample_every = 10;
    o.samples = 4;
    o.sample_steps = 2;
    return o;
  }

  int train(const ddpm::io::RunOptions& options) {
    return ddpm::io::train(trainer, options, {.step = on_step, .held_out_loss = [this] {
                                                return ddpm::held_out_loss(diffusion, trainer.best_model(),
                                                                           held_out, 2);
                                              }});
  }

  Batches loader, held_out;
  ddpm::Diffusion<Net, Schedule> diffusion;
  ddpm::Trainer<Net, Schedule, Batches> trainer;
  std::function<void(const ddpm::StepReport&)> on_step = {};
};

using TinyRun = TinyRunOf<float>;

}  // namespace train_support
