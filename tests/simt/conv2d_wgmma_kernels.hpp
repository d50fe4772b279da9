// SPDX-License-Identifier: MIT
// The convolutions of compute capability 9.0a on CudaSim. Pointers in the parameters are to its memory.
#pragma once

#include <ddpm/kernels/block/wgmma_choice.hpp>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm::simt::kernels {

using ddpm::kernels::WgmmaTile;

// With the tile given, by at most so many blocks. Params: Conv2dForward and Conv2dBackwardData of bf16.
template <class Params>
void run_with(WgmmaTile tile, const Params& params, int blocks = 1);
// And the pixels cut into as many parts.
void run_with(WgmmaTile tile, int parts, const Conv2dBackwardWeight<bf16>& params);

// Params: the three passes.
template <class Params>
bool supports_wgmma(const Params& params);

}  // namespace ddpm::simt::kernels
