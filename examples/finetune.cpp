// SPDX-License-Identifier: MIT
// Trains a diffusers folder further on images of one's own; finetune --help lists the options.
#include "target.hpp"

#include <ddpm/io.hpp>

namespace example {

using namespace ddpm;

struct Options {
  Target target;
  std::filesystem::path checkpoint, data, out;
  std::string format = "images";
  int steps = 1000, batch = 32, warmup = 100;
  double lr = 1e-4, ema = 0.999;
  std::uint64_t seed = 0;
};

// The training images, of the size that the model is for.
ImageSet images_for(const UNetConfig& config, const Options& o) {
  ImageSet images =
      o.format == "cifar10" ? io::cifar10(o.data)
      : o.format == "idx"
          ? io::fashion_mnist(o.data)
          : io::image_folder(o.data, {.size = config.height, .channels = config.in_channels}).images;
  const Shape found{images.height, images.width, images.channels};
  const Shape expected{config.height, config.width, config.in_channels};
  check<ConfigError>(found == expected, o.data.string(), ": found images of ", found, ", expected ", expected,
                     " as ", o.checkpoint.string(), " says");
  return images;
}

// Returns the number of steps made.
template <class Process, class Average, class Images>
int train(const Options& o, Process& process, Average& ema, Images& loader) {
  AdamW optimizer{process.model(), {.lr = o.lr, .grad_clip = 1}};
  TrainingStep train_step{process, optimizer, &ema};
  Rng rng{o.seed};
  const StopSignals stop;
  ProgressBar bar{"fine-tuning"};
  std::string details;
  int step = 0;
  while (step < o.steps && !stop.received()) {
    optimizer.options().lr = linear_warmup(o.lr, ++step, o.warmup);
    const double loss = train_step(loader.next(), rng).value();
    check<Error>(std::isfinite(loss), "the loss is ", loss, " at step ", step, ", try a lower --lr");
    details = message("step ", step, "  loss ", loss, "  ", step * o.batch / bar.elapsed(), " images/s");
    bar.update(double(step) / o.steps, details);
  }
  if (step == o.steps) bar.complete(details);
  return step;
}

template <Element T, Device D>
int run(const Options& o, const D& device) {
  Diffusion process{io::load_diffusers<UNet<T, D>>(o.checkpoint, device), io::load_schedule(o.checkpoint),
                    io::load_options(o.checkpoint)};
  const UNetConfig& config = process.model().config();
  Loader loader{
      images_for(config, o), device, {.batch = o.batch, .classes = config.num_class_embeds}, Rng{o.seed}};
  Ema ema{process.model(), o.ema, {.warmup = true}};
  const int steps = train(o, process, ema, loader);
  io::save_diffusers(o.out, ema.model(), io::load_scheduler_config(o.checkpoint));
  std::printf("saved %s after %d steps\n", o.out.string().c_str(), steps);
  return 0;
}

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
