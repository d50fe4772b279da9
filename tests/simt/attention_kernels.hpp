// SPDX-License-Identifier: MIT
// The attention kernels of the library on CudaSim. Pointers in the parameters are to its memory.
#pragma once

#include <ddpm/ops/attention.hpp>

namespace ddpm::simt::kernels {

// Params: AttentionForward and AttentionBackward of float and bf16.
template <class Params>
void run(const Params& params);

}  // namespace ddpm::simt::kernels
