// SPDX-License-Identifier: MIT
// Trains a diffusers folder further on images of one's own.
#pragma once

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
inline ImageSet images_for(const UNetConfig& config, const Options& o) {
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

}  // namespace example
