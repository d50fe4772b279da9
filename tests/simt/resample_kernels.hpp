// SPDX-License-Identifier: MIT
// Upsampling and the gradient of a bias on CudaSim. Pointers in the parameters are to its memory.
#pragma once

#include <ddpm/ops/reduce.hpp>
#include <ddpm/ops/resample.hpp>

namespace ddpm::simt::kernels {

// Params: UpsampleForward, UpsampleBackward and BiasBackward of float and bf16.
template <class Params>
void run(const Params& params);

}  // namespace ddpm::simt::kernels
