// SPDX-License-Identifier: MIT
// Trains on a folder of PNG and JPEG files, as a run that can be interrupted and resumed; train_image_folder --help
// lists the options.
#include "target.hpp"

#include <ddpm/io.hpp>

namespace example {

using namespace ddpm;

struct Options {
  Target target;
  std::filesystem::path data, held_out;
  io::ImageFolderOptions images = {.size = 32};
  std::vector<int> channels = {128, 256, 256, 256};
  bool labels = false, flip = false, recompute = false, roll_back = false, skip_bad = false;
  double dropout = 0;
  int batch = 32;
  std::uint64_t seed = 42;
  TrainerOptions trainer = {.lr = {.peak = 1e-4, .warmup = 500}};
  io::RunOptions run;
};

// Attention where images are 16 pixels high, as in Ho et al. 2020.
UNetConfig config_for(const Options& o, int classes) {
  UNetConfig config = UNetConfig::cifar10();
  config.height = config.width = o.images.size;
  config.in_channels = config.out_channels = o.images.channels;
  config.block_out_channels = o.channels;
  config.dropout = o.dropout;
  config.num_class_embeds = classes;
  config.down_blocks.clear();
  config.up_blocks.clear();
  for (std::size_t level = 0; level < o.channels.size(); ++level) {
    const bool attends = o.images.size >> level == 16;
    config.down_blocks.push_back(attends ? DownBlock::attention : DownBlock::plain);
    config.up_blocks.insert(config.up_blocks.begin(), attends ? UpBlock::attention : UpBlock::plain);
  }
  return config;
}

template <Element T, Device D>
int run(const Options& o, const D& device) {
  const Rng rng{o.seed};
  io::ImageFolder folder = io::image_folder(o.data, o.images);
  for (const std::string& reason : folder.skipped) std::fprintf(stderr, "left out: %s\n", reason.c_str());
  const int classes = o.labels ? static_cast<int>(folder.classes.size()) : 0;
  Loader loader{
      std::move(folder.images), device, {.batch = o.batch, .classes = classes, .flip = o.flip}, rng};
  Diffusion diffusion{
      UNet<T, D>{device, config_for(o, classes), rng}, LinearSchedule{}, {.recompute = o.recompute}};
  Trainer trainer{diffusion, loader, o.trainer, rng};
  io::RunHooks hooks;
  std::optional<Loader<float, D>> held_out;
  if (!o.held_out.empty()) {
    held_out.emplace(io::image_folder(o.held_out, o.images).images, device,
                     LoaderOptions{.batch = o.batch, .classes = classes}, rng);
    const auto batches = static_cast<int>(std::max<std::int64_t>(1, held_out->images().count / o.batch));
    hooks.held_out_loss = [&, batches] {
      return held_out_loss(diffusion, trainer.best_model(), *held_out, batches);
    };
  }
  return io::train(trainer, o.run, hooks);
}

void add_options(CLI::App& app, Options& o) {
  app.add_option("data", o.data, "folder of images; its sub-folders are classes")->required();
  app.add_option("--held-out", o.held_out, "folder of images to measure the loss on");
  app.add_flag("--skip-bad", o.skip_bad, "name files that cannot be read, and go on without them");
  app.add_option("--size", o.images.size, "side of the images in pixels");
  app.add_option("--image-channels", o.images.channels, "3: colour, 1: gray");
  app.add_option("--channels", o.channels, "of each level of the U-Net, multiples of 32")->delimiter(',');
  app.add_option("--dropout", o.dropout, "probability");
  app.add_flag("--labels", o.labels, "train a class-conditional model");
  app.add_flag("--flip", o.flip, "mirror a random half of the images");
  app.add_option("--batch", o.batch, "images at a time");
  app.add_option("--accumulate", o.trainer.accumulate, "batches in a step");
  app.add_flag("--recompute", o.recompute, "take less memory and more time");
  app.add_option("--lr", o.trainer.lr.peak, "learning rate");
  app.add_option("--warmup", o.trainer.lr.warmup, "steps of linear warmup");
  app.add_option("--decay-steps", o.trainer.lr.decay_steps, "cosine to 0 at this step; 0: constant");
  app.add_option("--ema", o.trainer.ema, "decays of the averages; the first is sampled with")->delimiter(',');
  add_target(app, o.target);
  app.add_option("--seed", o.seed, "seed of every random number");
  app.add_option("--out", o.run.out, "folder of the run");
  app.add_option("--steps", o.run.steps, "steps in all");
  app.add_flag("--resume", o.run.resume, "go on with the run in --out");
  app.add_option("--save-every", o.run.save_every, "steps between checkpoints");
  app.add_option("--keep", o.run.keep, "how many checkpoints stay, beside the best");
  app.add_option("--sample-every", o.run.sample_every, "steps between pictures of samples");
  app.add_option("--samples", o.run.samples, "images in such a picture");
  app.add_option("--evaluate-every", o.run.evaluate_every, "steps between measurements on --held-out");
  app.add_flag("--roll-back", o.roll_back, "where the loss is no number, go on from the last checkpoint");
}

}  // namespace example

int main(int argc, char** argv) try {
  example::Options options;
  CLI::App app{"Train a DDPM on a folder of images. Ctrl-C saves and ends; --resume goes on."};
  app.option_defaults()->always_capture_default();
  example::add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  if (options.skip_bad) options.images.on_bad = ddpm::io::OnBad::skip;
  if (options.roll_back) options.run.on_non_finite = ddpm::io::OnNonFinite::roll_back;
  return example::run_on_target(options);
} catch (const std::exception& error) {
  std::fprintf(stderr, "\ntrain_image_folder: %s\n", error.what());
  return 1;
}
