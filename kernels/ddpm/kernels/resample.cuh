// SPDX-License-Identifier: MIT
// Upsampling by 2, forward and backward.  Math and parameters: ddpm/ops/resample.hpp.
// Algorithm: each thread has one pack of channels and walks pixels of one row of the small image.
// Cost: reads 1x, writes 1x.  Bound: DRAM bandwidth.
#pragma once

#include <ddpm/kernels/block/channel_tile.cuh>
#include <ddpm/ops/resample.hpp>

namespace ddpm::kernels {

struct ResamplePolicy : ChannelTilePolicy {
  static constexpr int pixels = 4;
};

template <class Op>
struct UpsampleTiles {
  Op op;
  ChannelTiles tiles;  // rows of the small image, each with the two of the large one, in place of samples
};

// Where in its two rows of the large image the pixel of a row has its copies 0 to 3.
__device__ __forceinline__ int copy_of(int pixel, int width, int copy) {
  return 2 * pixel + copy % 2 + copy / 2 * 2 * width;
}

template <class P, int V, class T>
__global__ __launch_bounds__(P::threads) void upsample_nearest_kernel(
    const __grid_constant__ UpsampleTiles<UpsampleForward<T>> p) {
  const auto own = ChannelTile::of_thread<V>(p.tiles, p.op.w, p.op.c);
  const auto small = pixel_column(p.op.x, p.op.w, p.op.c, own);
  const auto large = pixel_column(p.op.y, 4 * p.op.w, p.op.c, own);
  for (int i = 0; i < own.count; ++i) {
    const int pixel = own.pixel(i);
    const auto x = Pack<T, V>::template load<CacheHint::stream>(small.at(pixel));
#pragma unroll
    for (int copy = 0; copy < 4; ++copy) x.store(large.at(copy_of(pixel, p.op.w, copy)));
  }
}

template <class P, int V, class T>
__global__ __launch_bounds__(P::threads) void upsample_nearest_backward_kernel(
    const __grid_constant__ UpsampleTiles<UpsampleBackward<T>> p) {
  const auto own = ChannelTile::of_thread<V>(p.tiles, p.op.w, p.op.c);
  const auto small = pixel_column(p.op.dx, p.op.w, p.op.c, own);
  const auto large = pixel_column(p.op.dy, 4 * p.op.w, p.op.c, own);
  for (int i = 0; i < own.count; ++i) {
    const int pixel = own.pixel(i);
    float sum[V] = {};
#pragma unroll
    for (int copy = 0; copy < 4; ++copy) {
      const auto dy = Pack<T, V>::template load<CacheHint::stream>(large.at(copy_of(pixel, p.op.w, copy)));
#pragma unroll
      for (int v = 0; v < V; ++v) sum[v] += static_cast<float>(dy[v]);
    }
    Pack<T, V> dx;
#pragma unroll
    for (int v = 0; v < V; ++v) dx[v] = static_cast<T>(sum[v]);
    dx.store(small.at(pixel));
  }
}

template <class Op>
using UpsampleKernel = void (*)(UpsampleTiles<Op>);

template <int V, GpuLike D, class Op>
void launch_upsample(const D& device, const Op& p, UpsampleKernel<Op> kernel) {
  const ChannelTiles tiles = channel_tiles<ResamplePolicy>(p.w, p.c / V);
  launch_kernel(device, tiles.blocks(p.n * p.h), tiles.threads(), kernel, {p, tiles});
}

}  // namespace ddpm::kernels

namespace ddpm {

template <GpuLike D, class T>
void launch(const D& device, const UpsampleForward<T>& p) {
  using Policy = kernels::ResamplePolicy;
  constexpr int width = kernels::pack_width<T>;
  if (p.c % width == 0 && kernels::is_aligned<width>(p.x) && kernels::is_aligned<width>(p.y))
    kernels::launch_upsample<width>(device, p, kernels::upsample_nearest_kernel<Policy, width, T>);
  else
    kernels::launch_upsample<1>(device, p, kernels::upsample_nearest_kernel<Policy, 1, T>);
}

template <GpuLike D, class T>
void launch(const D& device, const UpsampleBackward<T>& p) {
  using Policy = kernels::ResamplePolicy;
  constexpr int width = kernels::pack_width<T>;
  if (p.c % width == 0 && kernels::is_aligned<width>(p.dy) && kernels::is_aligned<width>(p.dx))
    kernels::launch_upsample<width>(device, p, kernels::upsample_nearest_backward_kernel<Policy, width, T>);
  else
    kernels::launch_upsample<1>(device, p, kernels::upsample_nearest_backward_kernel<Policy, 1, T>);
}

}  // namespace ddpm
