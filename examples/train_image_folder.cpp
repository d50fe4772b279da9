// SPDX-License-Identifier: MIT
// train_image_folder --help lists the options.
#include "train_image_folder.hpp"

#include "command_line.hpp"

namespace example {

void add_options(CLI::App& app, Options& o) {
  app.add_option("data", o.data, "folder of images; its sub-folders are classes")->required();
  app.add_option("--held-out", o.held_out, "folder of images to measure the loss on");
  app.add_flag("--skip-bad", o.skip_bad, "name files that cannot be read, and go on without them");
  app.add_option("--size", o.images.size, "side of the images in pixels");
  app.add_option("--image-channels", o.images.channels, "3: colour, 1: gray");
  app.add_option("--channels", o.channels, "of each level of the U-Net, multiples of 32")->delimiter(',');
  app.add_option("--dropout", o.dropout, "probability");
  app.add_flag("--skip-bad", o.skip_bad, "name files that cannot be read, and go on without them");
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
  return example::run_on_target(options, ddpm::Cpu{});
} catch (const std::exception& error) {
  std::fprintf(stderr, "\ntrain_image_folder: %s\n", error.what());
  return 1;
}
