// SPDX-License-Identifier: MIT
// Whole steps of U-Nets on the host: a forward pass, a step of training with its AdamW, a step of sampling.
//
//   DDPM_THREADS=2 ./unet_benchmark --benchmark_filter=cifar10/b4
#include "benchmark_case.hpp"

#include <ddpm/ddpm.hpp>
#include <ddpm/train/dry_run.hpp>

namespace {

using namespace ddpm;
using namespace ddpm::benchmarks;

// small() of peers/unet.py.
UNetConfig small() {
  UNetConfig config;
  config.height = config.width = 32;
  config.in_channels = config.out_channels = 1;
  config.block_out_channels = {32, 64, 128};
  config.down_blocks = {DownBlock::plain, DownBlock::attention, DownBlock::attention};
  config.up_blocks = {UpBlock::attention, UpBlock::attention, UpBlock::plain};
  config.attention_head_dim.reset();
  config.norm_num_groups = 8;
  return config;
}

struct Network {
  Shape shape;
  Rng rng{42};
  Diffusion<UNet<float, Cpu>, LinearSchedule> diffusion;
  Tensor<float, Cpu> images;
  Tensor<std::int32_t, Cpu> t;
  // Made by the first step of each, as they take memory.
  std::optional<AdamW<UNet<float, Cpu>>> optimizer;
  std::optional<Sampling<UNet<float, Cpu>>> sampling;

  Network(const UNetConfig& config, int n, const Cpu& device)
      : shape{n, config.height, config.width, config.in_channels},
        diffusion(UNet<float, Cpu>{device, config, rng}, LinearSchedule{}),
        images(filled(shape, device)),
        t(device, {n}, std::vector<std::int32_t>(static_cast<std::size_t>(n), 500)) {}

  void forward() { diffusion.model().predict(images, t); }
  void train() {
    if (!optimizer) optimizer.emplace(diffusion.model(), AdamWOptions{.lr = 2e-4});
    diffusion.train_step({.images = images}, rng);
    optimizer->step();
  }
  void sample() {
    if (!sampling || sampling->done() == sampling->steps()) {
      sampling.emplace(diffusion.with(diffusion.model()).begin(Ancestral{}, shape));
      sampling->x().copy_from(images);
    }
    sampling->step({rng.seed, 0, 0, RandomStream::sampler_noise});
  }
};

struct Step {
  const char* name;
  void (Network::*run)();
  int passes;  // through the network, a backward pass being two
};

std::int64_t forward_flops(const UNetConfig& config, int n) {
  DryRunUsage usage;
  const DryRun<Cpu> device{&usage};
  const UNet<float, DryRun<Cpu>> model(device, config);
  model.predict(Tensor<float, DryRun<Cpu>>(device, {n, config.height, config.width, config.in_channels}),
                Tensor<std::int32_t, DryRun<Cpu>>(device, {n}));
  return usage.flops;
}

Call prepare(const UNetConfig& config, int n, const Step& step, Cpu::Convolution convolution) {
  const auto network = std::make_shared<Network>(config, n, Cpu(convolution));
  return {[network, step] { ((*network).*step.run)(); }, {0, step.passes * forward_flops(config, n)}};
}

}  // namespace

int main(int argc, char** argv) {
  const Step steps[] = {
      {"forward/", &Network::forward, 1}, {"train/", &Network::train, 3}, {"sampling/", &Network::sample, 1}};
  const std::pair<const char*, UNetConfig> networks[] = {{"cifar10/", UNetConfig::cifar10()},
                                                         {"small/", small()}};
  const std::pair<const char*, Cpu::Convolution> modes[] = {{"", Cpu::Convolution::automatic},
                                                            {"/exact", Cpu::Convolution::exact},
                                                            {"/fast", Cpu::Convolution::fast}};
  std::vector<Case> cases;
  for (const Step& step : steps)
    for (const auto& [network, config] : networks)
      for (const int n : {1, 4, 16, 32, 128})
        for (const auto& [suffix, mode] : modes)
          cases.push_back(
              {message(step.name, network, "b", n, suffix),
               [config = config, n, step, mode = mode] { return prepare(config, n, step, mode); }});
  return run_cases(argc, argv, cases);
}
