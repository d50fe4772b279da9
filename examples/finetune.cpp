// SPDX-License-Identifier: MIT
// finetune --help lists the options.
#include "finetune.hpp"

#include "command_line.hpp"

namespace example {

void add_options(CLI::App& app, Options& o) {
  app.add_option("checkpoint", o.checkpoint, "folder of a pipeline or of its U-Net")->required();
  app.add_option("--data", o.data, "folder of the images; its sub-folders are classes")->required();
  app.add_option("--format", o.format, "of the images: images (PNG and JPEG), cifar10 (binary) or idx")
      ->check(CLI::IsMember({"images", "cifar10", "idx"}));
  app.add_option("--out", o.out, "folder to write, for this library and for diffusers")->required();
  app.add_option("--steps", o.steps, "how many steps")->check(CLI::PositiveNumber);
  app.add_option("--batch", o.batch, "images in a step")->check(CLI::PositiveNumber);
  app.add_option("--lr", o.lr, "learning rate")->check(CLI::PositiveNumber);
  app.add_option("--warmup", o.warmup, "steps of linear warmup")->check(CLI::NonNegativeNumber);
  app.add_option("--ema", o.ema, "decay of the averaged weights, which are what is saved");
  add_target(app, o.target);
  app.add_option("--seed", o.seed, "seed of every random number");
}

}  // namespace example

int main(int argc, char** argv) try {
  example::Options options;
  CLI::App app{"Train a diffusers folder further. Ctrl-C ends early and saves."};
  app.option_defaults()->always_capture_default();
  example::add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  return example::run_on_target(options, ddpm::Cpu{ddpm::Cpu::Convolution::fast});
} catch (const std::exception& error) {
  std::fprintf(stderr, "finetune: %s\n", error.what());
  return 1;
}
