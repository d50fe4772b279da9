// SPDX-License-Identifier: MIT
// sample --help lists the options.
#include "sample.hpp"

#include "command_line.hpp"

namespace example {

void add_options(CLI::App& app, Options& o) {
  app.add_option("checkpoint", o.checkpoint, "folder of a pipeline or of its U-Net")->required();
  app.add_option("--sampler", o.sampler, "ancestral or ddim")->check(CLI::IsMember({"ancestral", "ddim"}));
  app.add_option("--steps", o.steps, "steps of the sampler; 0: ancestral all, ddim 50");
  app.add_option("--eta", o.eta, "randomness of ddim")->check(CLI::Range(0.0, 1.0));
  app.add_flag("--no-clip", o.no_clip, "leave the predicted image as it is, outside of [-1, 1] too");
  app.add_option("--spacing", o.spacing, "of the time steps: leading, linspace or trailing")
      ->check(CLI::IsMember({"leading", "linspace", "trailing"}));
  app.add_option("--variance", o.variance, "of ancestral steps: fixed_small or fixed_large")
      ->check(CLI::IsMember({"fixed_small", "fixed_large"}));
  app.add_option("--class", o.label, "the class to draw, for a class-conditional model");
  auto* count = app.add_option("--count", o.count, "images to draw")->check(CLI::PositiveNumber);
  auto* batch = app.add_option("--batch", o.batch, "images at a time")->check(CLI::PositiveNumber);
  auto* seed = app.add_option("--seed", o.seed, "seed of the noise");
  add_target(app, o.target);
  auto* torch = app.add_flag("--torch-cpu-seed", o.torch_cpu_seed,
                             "draw what diffusers draws after torch.manual_seed(SEED) on a CPU");
  app.add_option("--noise", o.noise,
                 "safetensors file of x_T [N, C, H, W] and, where steps draw noise, z [steps, N, C, H, W]")
      ->excludes(count, batch, seed, torch);
  auto* results = app.add_option_group("results");
  results->add_option("--out", o.out, "PNG of all images in a grid");
  results->add_option("--raw", o.raw, "safetensors file of samples [N, C, H, W], not clamped");
  results->require_option(1, 2);
}

}  // namespace example

int main(int argc, char** argv) try {
  example::Options options;
  CLI::App app{"Sample a diffusers folder. What is not given comes from its scheduler."};
  app.option_defaults()->always_capture_default();
  example::add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  return example::run_on_target(options, ddpm::Cpu{});
} catch (const std::exception& error) {
  std::fprintf(stderr, "sample: %s\n", error.what());
  return 1;
}
