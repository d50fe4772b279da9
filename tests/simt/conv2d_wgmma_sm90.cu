// SPDX-License-Identifier: MIT
// Compiles the convolutions by wgmma natively; never run.
#include <ddpm/core/cuda.hpp>
#include <ddpm/kernels/conv2d_wgmma.cuh>

namespace ddpm::kernels {

void launch_every_conv2d_wgmma(const Cuda& device, const Conv2dForward<bf16>& forward,
                               const Conv2dBackwardData<bf16>& backward) {
  for (const WgmmaTile tile : {WgmmaTile::square, WgmmaTile::tall, WgmmaTile::wide})
    with_wgmma_tile(tile, [&]<class P>(P) {
      if (supports_wgmma(device, forward)) launch_conv2d_wgmma<P>(device, forward);
      if (supports_wgmma(device, backward)) launch_conv2d_wgmma<P>(device, backward);
    });
}

}  // namespace ddpm::kernels
