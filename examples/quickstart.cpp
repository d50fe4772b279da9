// SPDX-License-Identifier: MIT
// The shortest way from a diffusers folder to images: quickstart CHECKPOINT_DIR OUT.png
#include <cstdio>

#include <ddpm/ddpm.hpp>
#include <ddpm/io.hpp>

int main(int argc, char** argv) try {
  using namespace ddpm;
  check<ConfigError>(argc == 3, "quickstart: found ", argc - 1,
                     " arguments, expected CHECKPOINT_DIR OUT.png");
  const Diffusion diffusion{io::load_diffusers<UNet<float, Cpu>>(argv[1], Cpu{}), io::load_schedule(argv[1]),
                            io::load_options(argv[1])};
  const UNetConfig& config = diffusion.model().config();
  Rng rng{42};
  io::write_grid(argv[2], diffusion.sample({16, config.height, config.width, config.in_channels}, rng,
                                           Ddim{.steps = 50}));
} catch (const std::exception& error) {
  std::fprintf(stderr, "quickstart: %s\n", error.what());
  return 1;
}
