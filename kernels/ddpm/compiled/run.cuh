// SPDX-License-Identifier: MIT
// What ddpm/compiled.hpp declares, to be instantiated beside the kernels.
#pragma once

#include <ddpm/core/cuda.hpp>

namespace ddpm::compiled {

template <class Params>
void run(const Cuda& device, const Params& params) {
  launch(device, params);
}

}  // namespace ddpm::compiled
