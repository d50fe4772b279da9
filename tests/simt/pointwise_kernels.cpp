// SPDX-License-Identifier: MIT
#include "pointwise_kernels.hpp"

#include <ddpm/kernels/activation.cuh>
#include <ddpm/kernels/adamw.cuh>
#include <ddpm/kernels/denoising.cuh>
#include <ddpm/kernels/loss.cuh>
#include <ddpm/kernels/noising.cuh>
#include <ddpm/kernels/reduce.cuh>

#include "cuda_sim.hpp"

namespace ddpm::simt::kernels {

template <class Params>
void run(const Params& params) {
  launch(CudaSim{}, params);
}

template void run(const Noising<float>&);
template void run(const Noising<bf16>&);
template void run(const DrawTimesteps&);
template void run(const Denoising<float>&);
template void run(const Denoising<bf16>&);
template void run(const BeginStep<float>&);
template void run(const FillNormal<float>&);
template void run(const FillNormal<bf16>&);
template void run(const MseLoss<float>&);
template void run(const MseLoss<bf16>&);
template void run(const SquaredNorm<float>&);
template void run(const AdamWUpdate<float>&);
template void run(const EmaUpdate<float>&);
template void run(const SiluForward<float>&);
template void run(const SiluForward<bf16>&);
template void run(const SiluBackward<float>&);
template void run(const SiluBackward<bf16>&);
template void run(const SoftmaxForward<float>&);
template void run(const SoftmaxForward<bf16>&);
template void run(const SoftmaxBackward<float>&);
template void run(const SoftmaxBackward<bf16>&);

}  // namespace ddpm::simt::kernels
