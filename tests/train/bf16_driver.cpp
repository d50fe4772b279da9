// SPDX-License-Identifier: MIT
// bf16_driver: trains a small U-Net on Fashion-MNIST twice from one seed, in float and with bf16 storage. Exit status: 0 if
// the losses agree at the end, 1 if not, 77 where the images are not installed.
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>

#include <ddpm/ddpm.hpp>
#include <ddpm/io/idx.hpp>

using namespace ddpm;

namespace {

constexpr int steps = 200, batch = 16, last = 50;

struct Losses {
  double first = 0, mean_of_last = 0;
};

template <class T>
Losses train(const ImageSet& images) {
  UNetConfig config;
  config.height = config.width = 28;
  config.in_channels = config.out_channels = 1;
  config.block_out_channels = {16, 32};
  config.layers_per_block = 1;
  config.down_blocks = {DownBlock::plain, DownBlock::attention};
  config.up_blocks = {UpBlock::attention, UpBlock::plain};
  config.norm_num_groups = 8;
  config.attention_head_dim = 16;
  Rng rng{42};
  Loader loader{images, Cpu{}, {.batch = batch, .flip = true}, rng};
  Diffusion diffusion{UNet<T, Cpu>(Cpu{}, config, rng), LinearSchedule{}};
  AdamW optimizer{diffusion.model(), {.lr = 1e-3, .grad_clip = 1}};
  Losses losses;
  for (int step = 0; step < steps; ++step) {
    const auto loss = static_cast<double>(diffusion.train_step(loader.next(), rng).value());
    optimizer.step();
    if (step == 0) losses.first = loss;
    if (step >= steps - last) losses.mean_of_last += loss / last;
  }
  return losses;
}

}  // namespace

int main() try {
  const std::filesystem::path folder = "/usr/share/datasets/fashion-mnist";
  if (!std::filesystem::exists(folder)) {
    std::printf("skipped: there is no %s\n", folder.c_str());
    return 77;
  }
  const ImageSet images = io::fashion_mnist(folder);
  const Losses single = train<float>(images), half = train<bf16>(images);
  std::printf(
      "loss of the first step: float %.6f, bf16 %.6f; mean of the last %d of %d: float %.6f, bf16 %.6f\n",
      single.first, half.first, last, steps, single.mean_of_last, half.mean_of_last);
  const bool is_trained = single.mean_of_last < 0.2 * single.first;
  const bool is_same = std::abs(half.mean_of_last / single.mean_of_last - 1) < 0.01;
  return is_trained && is_same ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bf16_driver: %s\n", error.what());
  return 1;
}
