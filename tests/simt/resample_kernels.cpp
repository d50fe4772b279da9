// SPDX-License-Identifier: MIT
#include "resample_kernels.hpp"

#include <ddpm/kernels/resample.cuh>

#include "cuda_sim.hpp"

namespace ddpm::simt::kernels {

template <class Params>
void run(const Params& params) {
  launch(CudaSim{}, params);
}

template void run(const UpsampleForward<float>&);
template void run(const UpsampleForward<bf16>&);
template void run(const UpsampleBackward<float>&);
template void run(const UpsampleBackward<bf16>&);

}  // namespace ddpm::simt::kernels
