// SPDX-License-Identifier: MIT
// Compiles the recorded training step and sampling natively; never run.
#include <ddpm/ddpm.cuh>

namespace ddpm {

float train_and_sample(const Cuda& device, const Batch<float, Cuda>& batch) {
  Rng rng{1};
  Diffusion diffusion{UNet<float, Cuda>(device, UNetConfig{}, rng), LinearSchedule{}};
  AdamW optimizer{diffusion.model(), {.grad_clip = 1}};
  Ema ema{diffusion.model(), 0.9999};
  TrainingStep step{diffusion, optimizer, &ema};
  const float loss = step(batch, rng).value();
  return loss + diffusion.with(ema.model()).sample({1, 32, 32, 3}, rng, Ancestral{}).to_host().front();
}

}  // namespace ddpm
