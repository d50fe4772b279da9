// SPDX-License-Identifier: MIT
// expect: TrainableModel
// expect: model.backward(x, cache)
#include <ddpm/ddpm.hpp>

struct NoBackward {
  using value_type = float;
  using device_type = ddpm::Cpu;
  using View = ddpm::TensorView<float, ddpm::Cpu>;
  using Steps = ddpm::TensorView<std::int32_t, ddpm::Cpu>;
  struct Cache {};
  ddpm::Cpu device() const { return {}; }
  ddpm::Tensor<float, ddpm::Cpu> predict(View, Steps) const { return {}; }
  ddpm::Tensor<float, ddpm::Cpu> forward(View, Steps, Cache&) const { return {}; }
};

void train(ddpm::Diffusion<NoBackward, ddpm::LinearSchedule>& diffusion, ddpm::Rng& rng) {
  diffusion.train_step({}, rng);
}
