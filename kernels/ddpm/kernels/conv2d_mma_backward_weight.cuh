// SPDX-License-Identifier: MIT
// Convolution of bf16, or of float rounded to TF32, backward to weight and bias, on tensor cores.
// Math and parameters: ddpm/ops/conv2d.hpp.
// Algorithm: the implicit GEMM of conv2d_backward_weight.cuh by mma.sync, with output channels as rows and taps
// times input channels as columns. Both operands are neighbours across the product, so they are read transposed.
// Blocks of the first columns also sum dy, for the bias, of bf16 as a product with ones.
// Parts of the pixels are added by the same kernel in the same order.
// Cost: the multiplications of the definition, rounded up to tiles; reads x once per tap and tile of rows and dy
// once per tile of columns, mostly from L2.  Bound: mma.sync.
#pragma once

#include <ddpm/kernels/block/mma_tile.cuh>
#include <ddpm/kernels/conv2d_backward_weight.cuh>
#include <ddpm/kernels/conv2d_mma.cuh>

namespace ddpm::kernels {

// Adds to dweight, or writes a part.
template <class P, class T>
__device__ __forceinline__ void add_mma_gradient(const Conv2dBackwardWeightPart<T>& p, int first_row,
                                                 int first_column, const MmaSums<P>& sums) {
  const Conv2dGeometry& g = p.op.shape;
  const int columns = g.taps() * g.channels();
  float* const to = p.partial ? p.partial + std::int64_t{blockIdx.y} * g.cout * columns : p.op.dweight;
  for_each_row<P>(sums, [&](int row, int column, MmaRow<P>& value) {
    if (first_row + row >= g.cout) return;
    float* const at = to + std::int64_t{first_row + row} * columns + first_column + column;
    const auto for_each = [&](auto use) {
#pragma unroll
      for (int j = 0; j < P::warp_columns / 8; ++j)
        if (first_column + column + 8 * j < columns) use(value[j], at + 8 * j);
    };
    if (!p.partial)  // all loads before the first store, so that they overlap
      for_each([](Pack<float, 2>& pair, const float* from) {
        const auto earlier = Pack<float, 2>::load(from);
        pair[0] += earlier[0];
        pair[1] += earlier[1];
      });
    for_each([](const Pack<float, 2>& pair, float* to_pair) { pair.store(to_pair); });
  });
}

template <class P>
__global__ __launch_bounds__(P::threads) void conv2d_backward_weight_mma_kernel(
    const __grid_constant__ Conv2dBackwardWeightPart<typename P::Element> p) {
  using T = typename P::Element;
  using Gradients = MmaStaging<P, P::rows, Neighbours::across>;
  using Taps = MmaStaging<P, P::columns, Neighbours::across>;
  auto& shared = shared_memory<MmaStages<P, Gradients, Taps>>();
  const Conv2dGeometry& g = p.op.shape;
  const auto column_tiles = static_cast<unsigned>((g.taps() * g.channels() + P::columns - 1) / P::columns);
  const int first_row = static_cast<int>(blockIdx.x / column_tiles) * P::rows;
  const int first_column = static_cast<int>(blockIdx.x % column_tiles) * P::columns;
  const std::int64_t first = std::int64_t{blockIdx.y} * p.pixels, end = min(first + p.pixels, g.pixels());
  const bool has_bias = p.op.dbias && first_column == 0;
  MmaSums<P> sums = {};
  MmaRowSums<P> biases;
  for_each_mma_slice<P, Gradients, Taps>(
      shared, GradientChannels<T>(p.op, first_row + Gradients::across(), first + Gradients::depth(), end),
      TapPixels<T>(p.op, first_column + Taps::across(), PixelWalk::from(g, first + Taps::depth(), end)),
      end - first, [&](auto& gradients, auto& taps) {
        multiply_mma_slices<P, Gradients, Taps>(gradients, taps, sums);
        if (has_bias) biases.template add<Gradients>(gradients);
      });
  if (has_bias) biases.for_each([&](int row, float sum) { p.add_to_bias(first_row + row, sum); });
  add_mma_gradient<P>(p, first_row, first_column, sums);
}

template <class T>
bool supports_mma(const Conv2dBackwardWeight<T>& p) {
  constexpr int chunk = chunk_of<T>;
  return mma_takes<T>(p.shape) && p.shape.cout % chunk == 0 && is_aligned<chunk>(p.x) &&
         is_aligned<chunk>(p.x2) && is_aligned<chunk>(p.dy) && is_aligned<2>(p.dweight);
}

template <class P>
std::int64_t mma_tiles_of_weight(const Conv2dGeometry& g) {
  return std::int64_t{blocks_for(g.cout, P::rows)} * blocks_for(g.taps() * g.channels(), P::columns);
}

template <class P, GpuLike D>
void launch_conv2d_backward_weight_mma(const D& device, const Conv2dBackwardWeight<typename P::Element>& op,
                                       int parts) {
  using T = typename P::Element;
  using Gradients = MmaStaging<P, P::rows, Neighbours::across>;
  using Taps = MmaStaging<P, P::columns, Neighbours::across>;
  launch_in_parts(device, op, parts, P::depth, [&](const Conv2dBackwardWeightPart<T>& p) {
    launch_kernel<MmaStages<P, Gradients, Taps>>(
        device, {static_cast<unsigned>(mma_tiles_of_weight<P>(op.shape)), static_cast<unsigned>(parts)},
        P::threads, conv2d_backward_weight_mma_kernel<P>, p);
  });
}

// Calls run(policy) with the tile's, which is not flat.
template <class T, class Run>
void with_mma_weight_tile(MmaTile tile, Run run) {
  if (tile == MmaTile::tall) run(MmaTilePolicy<MmaTile::tall, T>{});
  if (tile == MmaTile::large) run(MmaTilePolicy<MmaTile::large, T>{});
  if (tile == MmaTile::small) run(MmaTilePolicy<MmaTile::small, T>{});
}

}  // namespace ddpm::kernels
