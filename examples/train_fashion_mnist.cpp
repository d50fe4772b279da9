// SPDX-License-Identifier: MIT
// train_fashion_mnist --help lists the options.
#include "train_fashion_mnist.hpp"

#include "command_line.hpp"

namespace example {

Options parse(int argc, char** argv) {
  Options o;
  CLI::App app{"Train a DDPM on Fashion-MNIST and sample from it"};
  app.add_option("--data", o.data, "folder of IDX files")->capture_default_str();
  app.add_option("--out", o.out, "folder for pictures, metrics and the checkpoint")->capture_default_str();
  app.add_option("--minutes", o.minutes, "how long to train")
      ->check(CLI::Range(0.01, 1e5))
      ->capture_default_str();
  app.add_option("--steps", o.steps, "how many steps to train, in place of --minutes")
      ->check(CLI::Range(1, 1000000000));
  app.add_option("--batch", o.batch, "images in a step")->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--lr", o.lr, "peak learning rate")->check(CLI::Range(1e-6, 1.0))->capture_default_str();
  app.add_option("--warmup", o.warmup, "steps of linear warmup")
      ->check(CLI::Range(0, 1000000))
      ->capture_default_str();
  app.add_option("--ema", o.ema, "decay of the averaged weights")
      ->check(CLI::Range(0.0, 0.99999))
      ->capture_default_str();
  add_target(app, o.target);
  app.add_option("--seed", o.seed, "seed of every random number")->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  return o;
}

}  // namespace example

int main(int argc, char** argv) {
  const auto note = [](int signal) { example::interrupted = signal; };
  std::signal(SIGINT, note);
  std::signal(SIGTERM, note);
  try {
    return example::run_on_target(example::parse(argc, argv), ddpm::Cpu{ddpm::Cpu::Convolution::fast});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "\ntrain_fashion_mnist: %s\n", error.what());
    return 1;
  }
}
