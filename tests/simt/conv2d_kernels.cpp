// SPDX-License-Identifier: MIT
#include "conv2d_kernels.hpp"

#include <ddpm/kernels/conv2d.cuh>
#include <ddpm/kernels/linear.cuh>

#include "cuda_sim.hpp"

namespace ddpm::simt::kernels {

using namespace ddpm::kernels;

template <class Params>
void run(const Params& params) {
  launch(CudaSim{}, params);
}

template <class Params>
void run_with(Tile tile, const Params& params) {
  if (tile == Tile::wide)
    ddpm::kernels::launch_conv2d_implicit_gemm<WideTile>(CudaSim{}, params);
  else
    ddpm::kernels::launch_conv2d_implicit_gemm<NarrowTile>(CudaSim{}, params);
}

template <class T>
void run_with(Tile tile, int parts, const Conv2dBackwardWeight<T>& params) {
  if (tile == Tile::wide)
    ddpm::kernels::launch_conv2d_backward_weight<WideTile>(CudaSim{}, params, parts);
  else
    ddpm::kernels::launch_conv2d_backward_weight<NarrowTile>(CudaSim{}, params, parts);
}

template <class Params>
void run_with(MmaTile tile, const Params& params) {
  with_mma_tile(tile, [&]<class P>(P) { launch_conv2d_mma<P>(CudaSim{}, params); });
}

void run_with(MmaTile tile, int parts, const Conv2dBackwardWeight<bf16>& params) {
  with_mma_weight_tile(tile,
                       [&]<class P>(P) { launch_conv2d_backward_weight_mma<P>(CudaSim{}, params, parts); });
}

template <class Params>
void run_on_tensor_cores(const Params& params) {
  launch(CudaSim{}, params, Conv2dAlgorithm::mma);
}

template <class Params>
void run_on_general_cores(const Params& params) {
  launch(CudaSim{}, params, Conv2dAlgorithm::general);
}

template <class Params>
void run_by_wgmma(const Params& params) {
  launch(CudaSim{}, params, Conv2dAlgorithm::wgmma);
}

bool supports_mma(const Conv2dForward<bf16>& params) { return ddpm::kernels::supports_mma(params); }

bool gives_moments(const Conv2dGeometry& g) { return conv2d_gives_moments<bf16>(CudaSim{}, g); }

int parts_of_pixels(const Conv2dGeometry& g, std::int64_t tiles) {
  return ddpm::kernels::parts_of_pixels(CudaSim{}.properties(), g, tiles);
}

template void run(const Conv2dForward<float>&);
template void run(const Conv2dForward<bf16>&);
template void run(const Conv2dBackwardData<float>&);
template void run(const Conv2dBackwardData<bf16>&);
template void run(const Conv2dBackwardWeight<float>&);
template void run(const Conv2dBackwardWeight<bf16>&);
template void run(const Conv2dPrepare<float>&);
template void run(const Conv2dPrepare<bf16>&);
template void run(const LinearForward<float>&);
template void run(const LinearForward<bf16>&);
template void run(const LinearBackwardData<float>&);
template void run(const LinearBackwardData<bf16>&);
template void run(const LinearBackwardWeight<float>&);
template void run(const LinearBackwardWeight<bf16>&);
template void run_with(Tile, const Conv2dForward<float>&);
template void run_with(Tile, const Conv2dForward<bf16>&);
template void run_with(Tile, const Conv2dBackwardData<float>&);
template void run_with(Tile, const Conv2dBackwardData<bf16>&);
template void run_with(Tile, int, const Conv2dBackwardWeight<float>&);
template void run_with(Tile, int, const Conv2dBackwardWeight<bf16>&);
template void run_with(MmaTile, const Conv2dForward<bf16>&);
template void run_with(MmaTile, const Conv2dBackwardData<bf16>&);
template void run_on_tensor_cores(const Conv2dForward<float>&);
template void run_on_tensor_cores(const Conv2dForward<bf16>&);
template void run_on_tensor_cores(const Conv2dBackwardData<bf16>&);
template void run_on_tensor_cores(const Conv2dBackwardWeight<bf16>&);
template void run_by_wgmma(const Conv2dForward<float>&);
template void run_by_wgmma(const Conv2dForward<bf16>&);
template void run_by_wgmma(const Conv2dBackwardData<bf16>&);
template void run_by_wgmma(const Conv2dBackwardWeight<bf16>&);
template void run_on_general_cores(const Conv2dForward<bf16>&);
template void run_on_general_cores(const Conv2dBackwardData<bf16>&);
template void run_on_general_cores(const Conv2dBackwardWeight<bf16>&);

}  // namespace ddpm::simt::kernels
