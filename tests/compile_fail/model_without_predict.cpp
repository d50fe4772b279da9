// SPDX-License-Identifier: MIT
// expect: Model
// expect: model.predict(x, t)
#include <ddpm/ddpm.hpp>

struct NoPredict {
  using value_type = float;
  using device_type = ddpm::Cpu;
  ddpm::Cpu device() const { return {}; }
};

ddpm::Diffusion<NoPredict, ddpm::LinearSchedule> diffusion{NoPredict{}, ddpm::LinearSchedule{}};
