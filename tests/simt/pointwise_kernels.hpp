// SPDX-License-Identifier: MIT
// The pointwise kernels of the library on CudaSim. Pointers in the parameters are to its memory.
#pragma once

#include <ddpm/ops/activation.hpp>
#include <ddpm/ops/adamw.hpp>
#include <ddpm/ops/denoising.hpp>
#include <ddpm/ops/loss.hpp>
#include <ddpm/ops/noising.hpp>
#include <ddpm/ops/reduce.hpp>

namespace ddpm::simt::kernels {

// Params: Noising, Denoising, FillNormal, MseLoss, SiluForward, SiluBackward, SoftmaxForward and
// SoftmaxBackward of float and bf16; DrawTimesteps; BeginStep, SquaredNorm, AdamWUpdate and EmaUpdate of
// float.
template <class Params>
void run(const Params& params);

}  // namespace ddpm::simt::kernels
