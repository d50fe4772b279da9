// SPDX-License-Identifier: MIT
#include "attention_kernels.hpp"

#include <ddpm/kernels/attention.cuh>

#include "cuda_sim.hpp"

namespace ddpm::simt::kernels {

template <class Params>
void run(const Params& params) {
  launch(CudaSim{}, params);
}

template <class Params>
void run_on_general_cores(const Params& params) {
  launch(CudaSim{}, params, AttentionAlgorithm::general);
}

template <class Params>
void run_on_tensor_cores(const Params& params) {
  launch(CudaSim{}, params, AttentionAlgorithm::mma);
}

template void run(const AttentionForward<float>&);
template void run(const AttentionForward<bf16>&);
template void run(const AttentionBackward<float>&);
template void run(const AttentionBackward<bf16>&);
template void run_on_general_cores(const AttentionForward<float>&);
template void run_on_general_cores(const AttentionForward<bf16>&);
template void run_on_general_cores(const AttentionBackward<float>&);
template void run_on_general_cores(const AttentionBackward<bf16>&);
template void run_on_tensor_cores(const AttentionForward<float>&);
template void run_on_tensor_cores(const AttentionForward<bf16>&);
template void run_on_tensor_cores(const AttentionBackward<bf16>&);

}  // namespace ddpm::simt::kernels
