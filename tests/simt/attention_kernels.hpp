// SPDX-License-Identifier: MIT
// The attention kernels of the library on CudaSim. Pointers in the parameters are to its memory.
#pragma once

#include <ddpm/ops/attention.hpp>

namespace ddpm::simt::kernels {

// Params: AttentionForward and AttentionBackward of float and bf16.
template <class Params>
void run(const Params& params);
template <class Params>
void run_on_general_cores(const Params& params);

// Refuses what tensor cores cannot compute. Params: those of bf16, and AttentionForward of float.
template <class Params>
void run_on_tensor_cores(const Params& params);

}  // namespace ddpm::simt::kernels
