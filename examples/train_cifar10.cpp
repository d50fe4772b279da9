// SPDX-License-Identifier: MIT
// train_cifar10 --help lists the options.
#include "train_cifar10.hpp"

#include "command_line.hpp"

namespace example {

Options parse(int argc, char** argv) {
  Options o;
  o.run.scheduler.variance_type = "fixed_large";
  CLI::App app{"Train the DDPM of Ho et al. 2020 on CIFAR-10. Ctrl-C saves and ends; --resume goes on."};
  app.add_option("data", o.data, "folder of the binary batches")->required();
  app.add_option("--out", o.run.out, "folder of the run")->capture_default_str();
  app.add_option("--steps", o.run.steps, "steps in all")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_flag("--resume", o.run.resume, "go on with the run in --out");
  app.add_option("--batch", o.batch, "images at a time")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--accumulate", o.accumulate, "batches in a step")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--recompute", o.recompute, "take less memory and more time");
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

int main(int argc, char** argv) try {
  return example::run_on_target(example::parse(argc, argv), ddpm::Cpu{});
} catch (const std::exception& error) {
  std::fprintf(stderr, "\ntrain_cifar10: %s\n", error.what());
  return 1;
}
