// SPDX-License-Identifier: MIT
// Group normalisation on CudaSim. Pointers in the parameters are to its memory.
#pragma once

#include <ddpm/ops/group_norm.hpp>

namespace ddpm::simt::kernels {

// Params: GroupNormForward and GroupNormBackward of float and bf16.
template <class Params>
void run(const Params& params);

// By the kernels for samples of any size, also where they fit into a block.
template <class T>
void run_streaming(const GroupNormForward<T>& params);
template <class T>
void run_streaming(const GroupNormBackward<T>& params);

}  // namespace ddpm::simt::kernels
