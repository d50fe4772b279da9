// SPDX-License-Identifier: MIT
#include "conv2d_wgmma_kernels.hpp"

#include <ddpm/kernels/conv2d_wgmma_backward_weight.cuh>

#include "cuda_sim.hpp"

namespace ddpm::simt::kernels {

template <class Params>
void run_with(WgmmaTile tile, const Params& params, int blocks) {
  ddpm::kernels::with_wgmma_tile(
      tile, [&]<class P>(P) { ddpm::kernels::launch_conv2d_wgmma<P>(CudaSim{}, params, blocks); });
}

void run_with(WgmmaTile tile, int parts, const Conv2dBackwardWeight<bf16>& params) {
  ddpm::kernels::with_wgmma_weight_tile(tile, [&]<class P>(P) {
    ddpm::kernels::launch_conv2d_backward_weight_wgmma<P>(CudaSim{}, params, parts);
  });
}

template <class Params>
bool supports_wgmma(const Params& params) {
  return ddpm::kernels::supports_wgmma(CudaSim{}, params);
}

template void run_with(WgmmaTile, const Conv2dForward<bf16>&, int);
template void run_with(WgmmaTile, const Conv2dBackwardData<bf16>&, int);
template bool supports_wgmma(const Conv2dForward<bf16>&);
template bool supports_wgmma(const Conv2dBackwardData<bf16>&);
template bool supports_wgmma(const Conv2dBackwardWeight<bf16>&);

}  // namespace ddpm::simt::kernels
