// SPDX-License-Identifier: MIT
// The training of Ho et al. 2020 on CIFAR-10 as a run in a folder, which can be interrupted and resumed.
#pragma once

#include "target.hpp"

#include <ddpm/io.hpp>

namespace example {

using namespace ddpm;

struct Options {
  Target target;
  std::string data;
  int batch = 128, accumulate = 1;
  std::uint64_t seed = 42;
  bool recompute = false;
  io::RunOptions run = {.out = "cifar10", .steps = 800'000, .evaluate_every = 5000};
};

template <Element T, Device D>
int run(const Options& o, const D& device) {
  const Rng rng{o.seed};
  UNetConfig config = UNetConfig::cifar10();
  config.dropout = 0.1;
  Loader loader{io::cifar10(o.data), device, {.batch = o.batch, .flip = true}, rng};
  Loader held_out{io::cifar10(o.data, io::Split::test), device, {.batch = 100}, rng};
  Diffusion diffusion{UNet<T, D>{device, config, rng}, LinearSchedule{}, {.recompute = o.recompute}};
  Trainer trainer{diffusion, loader, {.lr = {.warmup = 5000}, .accumulate = o.accumulate}, rng};
  return io::train(trainer, o.run, {.held_out_loss = [&] {
                     return held_out_loss(diffusion, trainer.best_model(), held_out, 20);
                   }});
}

}  // namespace example
