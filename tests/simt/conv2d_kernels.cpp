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

template <template <class> class Op, class T>
void run_with(MmaTile tile, const Op<T>& params) {
  with_mma_tile<T>(tile, [&]<class P>(P) { launch_conv2d_mma<P>(CudaSim{}, params); });
}

template <class T>
void run_with(MmaTile tile, int parts, const Conv2dBackwardWeight<T>& params) {
  with_mma_weight_tile<T>(
      tile, [&]<class P>(P) { launch_conv2d_backward_weight_mma<P>(CudaSim{}, params, parts); });
}

CudaSim with(FloatProducts products) {
  CudaSim device;
  device.float_products = products;
  return device;
}

template <class Params>
void run(FloatProducts products, const Params& params) {
  launch(with(products), params);
}

template <class Params>
void run_on_tensor_cores(FloatProducts products, const Params& params) {
  launch(with(products), params, Conv2dAlgorithm::mma);
}

template <class Params>
void run_on_general_cores(FloatProducts products, const Params& params) {
  launch(with(products), params, Conv2dAlgorithm::general);
}

template <class Params>
void run_by_wgmma(FloatProducts products, const Params& params) {
  launch(with(products), params, Conv2dAlgorithm::wgmma);
}

template <class T>
bool supports_mma(const Conv2dForward<T>& params) {
  return ddpm::kernels::supports_mma(params);
}

template <class T>
bool gives_moments(FloatProducts products, const Conv2dGeometry& g) {
  return conv2d_gives_moments<T>(with(products), g);
}

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
template void run_with(MmaTile, const Conv2dForward<float>&);
template void run_with(MmaTile, const Conv2dBackwardData<float>&);
template void run_with(MmaTile, int, const Conv2dBackwardWeight<float>&);
template void run(FloatProducts, const Conv2dForward<float>&);
template void run(FloatProducts, const Conv2dBackwardData<float>&);
template void run(FloatProducts, const Conv2dBackwardWeight<float>&);
template void run(FloatProducts, const LinearForward<float>&);
template void run(FloatProducts, const LinearBackwardData<float>&);
template void run(FloatProducts, const LinearBackwardWeight<float>&);
template void run_on_tensor_cores(FloatProducts, const Conv2dForward<float>&);
template void run_on_tensor_cores(FloatProducts, const Conv2dBackwardData<float>&);
template void run_on_tensor_cores(FloatProducts, const Conv2dBackwardWeight<float>&);
template void run_on_general_cores(FloatProducts, const Conv2dForward<float>&);
template void run_on_general_cores(FloatProducts, const Conv2dBackwardData<float>&);
template void run_on_general_cores(FloatProducts, const Conv2dBackwardWeight<float>&);
template void run_by_wgmma(FloatProducts, const Conv2dForward<float>&);
template void run_by_wgmma(FloatProducts, const Conv2dBackwardData<float>&);
template void run_by_wgmma(FloatProducts, const Conv2dBackwardWeight<float>&);
template bool supports_mma(const Conv2dForward<float>&);
template bool gives_moments<float>(FloatProducts, const Conv2dGeometry&);
template void run_with(MmaTile, const Conv2dForward<bf16>&);
template void run_with(MmaTile, const Conv2dBackwardData<bf16>&);
template void run_with(MmaTile, int, const Conv2dBackwardWeight<bf16>&);
template void run(FloatProducts, const Conv2dForward<bf16>&);
template void run(FloatProducts, const Conv2dBackwardData<bf16>&);
template void run(FloatProducts, const Conv2dBackwardWeight<bf16>&);
template void run(FloatProducts, const LinearForward<bf16>&);
template void run(FloatProducts, const LinearBackwardData<bf16>&);
template void run(FloatProducts, const LinearBackwardWeight<bf16>&);
template void run_on_tensor_cores(FloatProducts, const Conv2dForward<bf16>&);
template void run_on_tensor_cores(FloatProducts, const Conv2dBackwardData<bf16>&);
template void run_on_tensor_cores(FloatProducts, const Conv2dBackwardWeight<bf16>&);
template void run_on_general_cores(FloatProducts, const Conv2dForward<bf16>&);
template void run_on_general_cores(FloatProducts, const Conv2dBackwardData<bf16>&);
template void run_on_general_cores(FloatProducts, const Conv2dBackwardWeight<bf16>&);
template void run_by_wgmma(FloatProducts, const Conv2dForward<bf16>&);
template void run_by_wgmma(FloatProducts, const Conv2dBackwardData<bf16>&);
template void run_by_wgmma(FloatProducts, const Conv2dBackwardWeight<bf16>&);
template bool supports_mma(const Conv2dForward<bf16>&);
template bool gives_moments<bf16>(FloatProducts, const Conv2dGeometry&);

}  // namespace ddpm::simt::kernels
