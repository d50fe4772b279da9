// SPDX-License-Identifier: MIT
#include "attention_kernels.hpp"

#include <ddpm/kernels/attention.cuh>

#include "cuda_sim.hpp"

namespace ddpm::simt::kernels {

template <class Params>
void run(const Params& params) {
  launch(CudaSim{}, params);
}

template void run(const AttentionForward<float>&);
template void run(const AttentionForward<bf16>&);
template void run(const AttentionBackward<float>&);
template void run(const AttentionBackward<bf16>&);

}  // namespace ddpm::simt::kernels
