// SPDX-License-Identifier: MIT
// expect: Schedule
// expect: schedule.beta(t)
#include <ddpm/diffusion/noise_levels.hpp>

struct NoBeta {
  int steps() const { return 10; }
};

ddpm::NoiseLevels levels{NoBeta{}};
