// SPDX-License-Identifier: MIT
// The training of Ho et al. 2020 on CIFAR-10, as a loop written by hand: training_loop FOLDER_OF_BINARY_BATCHES
#include <cstdio>

#include <ddpm/ddpm.hpp>
#include <ddpm/io.hpp>

int main(int argc, char** argv) try {
  using namespace ddpm;
  check<ConfigError>(argc == 2, "training_loop: found ", argc - 1,
                     " arguments, expected the folder of the .bin files");
  const Cpu device;
  Rng rng{42};
  UNetConfig config = UNetConfig::cifar10();
  config.dropout = 0.1;
  Loader loader{io::cifar10(argv[1]), device, {.batch = 128, .flip = true}, rng};
  Diffusion diffusion{UNet<float, Cpu>{device, config, rng}, LinearSchedule{}};
  AdamW optimizer{diffusion.model(), {.lr = 2e-4, .grad_clip = 1}};
  Ema ema{diffusion.model(), 0.9999};
  for (int step = 1; step <= 800'000; ++step) {
    optimizer.options().lr = linear_warmup(2e-4, step, 5000);
    const auto loss = diffusion.train_step(loader.next(), rng);
    optimizer.step(ema);
    if (step % 100 == 0) std::printf("step %7d  loss %.4f\n", step, loss.value());
    if (step % 10'000 == 0) {
      io::save_diffusers("ckpt/cifar10", ema.model(), {.variance_type = "fixed_large"});
      io::write_grid("samples.png",
                     diffusion.with(ema.model()).sample({64, 32, 32, 3}, rng, Ddim{.steps = 50}));
    }
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "training_loop: %s\n", error.what());
  return 1;
}
