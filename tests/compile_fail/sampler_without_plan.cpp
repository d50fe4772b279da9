// SPDX-License-Identifier: MIT
// expect: Sampler
// expect: sampler.plan(levels, prediction)
#include <ddpm/ddpm.hpp>

struct NoPlan {
  double clip = 1;
};

template <ddpm::Sampler S>
void use(const S&) {}

void sample() { use(NoPlan{}); }
