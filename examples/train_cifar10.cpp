// SPDX-License-Identifier: MIT
// The training of Ho et al. 2020 on CIFAR-10 as a run in a folder, which can be interrupted and resumed; train_cifar10
// --help lists the options.
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

void add_options(CLI::App& app, Options& o) {
  app.add_option("data", o.data, "folder of the binary batches")->required();
  app.add_option("--out", o.run.out, "folder of the run");
  app.add_option("--steps", o.run.steps, "steps in all")->check(CLI::PositiveNumber);
  app.add_flag("--resume", o.run.resume, "go on with the run in --out");
  app.add_option("--batch", o.batch, "images at a time")->check(CLI::PositiveNumber);
  app.add_option("--accumulate", o.accumulate, "batches in a step")->check(CLI::PositiveNumber);
  app.add_flag("--recompute", o.recompute, "take less memory and more time");
  add_target(app, o.target);
  app.add_option("--seed", o.seed, "seed of every random number");
}

}  // namespace example

int main(int argc, char** argv) try {
  example::Options options;
  CLI::App app{"Train the DDPM of Ho et al. 2020 on CIFAR-10. Ctrl-C saves and ends; --resume goes on."};
  app.option_defaults()->always_capture_default();
  example::add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  options.run.scheduler.variance_type = "fixed_large";
  return example::run_on_target(options);
} catch (const std::exception& error) {
  std::fprintf(stderr, "\ntrain_cifar10: %s\n", error.what());
  return 1;
}
