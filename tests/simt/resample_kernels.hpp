// SPDX-License-Identifier: MIT
// Upsampling on CudaSim. Pointers in the parameters are to its memory.
#pragma once

#include <ddpm/ops/resample.hpp>

namespace ddpm::simt::kernels {

// Params: UpsampleForward and UpsampleBackward of float and bf16.
template <class Params>
void run(const Params& params);

}  // namespace ddpm::simt::kernels
