// SPDX-License-Identifier: MIT
// Sums over pixels, for the gradient of a bias, and the squared norm of a flat buffer.
// Math and parameters: ddpm/ops/reduce.hpp.
// Algorithm: blocks whose number depends on the shape alone each leave partial sums, which a second kernel
// adds in order.
// Cost: reads 1x.  Bound: DRAM bandwidth.
#pragma once

#include <algorithm>
#include <limits>

#include <ddpm/core/tensor.hpp>
#include <ddpm/kernels/block/channel_tile.cuh>
#include <ddpm/kernels/block/quad.cuh>
#include <ddpm/kernels/block/reduce.cuh>
#include <ddpm/ops/reduce.hpp>

namespace ddpm::kernels {

struct ReducePolicy {
  static constexpr int threads = 256;
  static constexpr int most_blocks = 1024;
};

template <class T>
struct SumOfPartials {
  const float* partial;  // [count]
  int count;
  T* sum;
};

// One block.
template <class P, class T>
__global__ __launch_bounds__(P::threads) void sum_of_partials_kernel(
    const __grid_constant__ SumOfPartials<T> p) {
  auto& shared = shared_memory<BlockSumShared<P::threads>>();
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < p.count; i += P::threads) sum += p.partial[i];
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) *p.sum = static_cast<T>(sum);
}

template <class T>
struct SquaredNormPartials {
  SquaredNorm<T> op;
  float* partial;  // [blocks]
};

template <class P, QuadAccess A, class T>
__global__ __launch_bounds__(P::threads) void squared_norm_kernel(
    const __grid_constant__ SquaredNormPartials<T> p) {
  auto& shared = shared_memory<BlockSumShared<P::threads>>();
  const std::int64_t step = std::int64_t{gridDim.x} * P::threads * quad;
  float sum = 0;
  for (auto own = SampleQuad::of_thread(p.op.count); own.count > 0;
       own = SampleQuad::at(own.first + step, p.op.count)) {
    float x[quad] = {};
    load_quad<A>(p.op.x + own.first, own.count, x);
    for (const float value : x) sum += value * value;
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) p.partial[blockIdx.x] = sum;
}

// *sum = the partial sums added up.
template <class D, class T>
void launch_sum_of_partials(const D& device, const TensorView<float, D>& partial, T* sum) {
  using Policy = ReducePolicy;
  launch_kernel<BlockSumShared<Policy::threads>>(device, 1, Policy::threads,
                                                 sum_of_partials_kernel<Policy, T>,
                                                 {partial.data(), static_cast<int>(partial.numel()), sum});
}

struct ChannelSumsPolicy : ChannelTilePolicy {
  static constexpr int items = 8;  // packs of a thread in registers
};

// sum[n,c], or of each block of pixels.
template <class T>
struct StoredSums {
  T* sum;
  __device__ __forceinline__ void take(std::int64_t block, int channels, int channel, float value) const {
    sum[block * channels + channel] = static_cast<T>(value);
  }
};

// sum[n][c] += that of sample n.
struct AddedSums {
  float* sum[2];
  __device__ __forceinline__ void take(std::int64_t block, int, int channel, float value) const {
    sum[block][channel] += value;
  }
};

// Sums over the pixels of x.
template <class T, class Sums>
struct ChannelSums {
  const T* x;  // [N, HW, C]
  int hw, channels;
  ChannelTiles tiles;
  Sums sums;
};

template <class P, int V, class T, class Sums>
__global__ __launch_bounds__(P::threads) void channel_sums_kernel(
    const __grid_constant__ ChannelSums<T, Sums> p) {
  auto& shared = shared_memory<ChannelValues<P::threads, V>>();
  const auto own = ChannelTile::of_thread<V>(p.tiles, p.hw, p.channels);
  const auto from = pixel_column(p.x, p.hw, p.channels, own);
  float sum[V] = {};
  for (int begin = 0; begin < own.count; begin += P::items) {
    Pack<T, V> x[P::items];
    load_pixels<CacheHint::keep>(from, own, begin, x);
#pragma unroll
    for (int i = 0; i < P::items; ++i)
#pragma unroll
      for (int v = 0; v < V; ++v) sum[v] += static_cast<float>(x[i][v]);
  }
#pragma unroll
  for (int v = 0; v < V; ++v) shared.put(v, sum[v]);
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < own.block_channels; c += static_cast<int>(blockDim.x))
    p.sums.take(own.block, p.channels, own.block_channel + c, shared.sum_of_rows(p.tiles, c));
}

// Tiles of single channels in which one block has all the pixels of a sample.
inline ChannelTiles column_tiles(int hw, int channels) {
  constexpr int columns = 8;  // a sector of floats
  return {columns, std::clamp(hw, 1, ChannelSumsPolicy::threads / columns), hw, 1,
          static_cast<int>(blocks_for(channels, columns))};
}

template <int V, class D, class T, class Sums>
void launch_channel_sums(const D& device, int samples, const ChannelSums<T, Sums>& p) {
  using P = ChannelSumsPolicy;
  launch_kernel<ChannelValues<P::threads, V>>(device, p.tiles.blocks(samples), p.tiles.threads(),
                                              channel_sums_kernel<P, V, T, Sums>, p);
}

template <int V, class D, class T>
void launch_bias_backward(const D& device, const BiasBackward<T>& p) {
  // Unless the sums of each are asked for, all samples are one.
  const std::int64_t pixels = std::int64_t{p.n} * p.hw;
  const bool is_one = !p.per_sample && pixels <= std::numeric_limits<int>::max();
  const int n = is_one ? 1 : p.n, hw = is_one ? static_cast<int>(pixels) : p.hw;
  const ChannelTiles tiles = channel_tiles<ChannelSumsPolicy>(hw, p.c / V);
  const Tensor<float, D> partial(device, {n, tiles.pixel_blocks, p.c});
  launch_channel_sums<V>(device, n,
                         ChannelSums<T, StoredSums<float>>{p.dy, hw, p.c, tiles, {partial.data()}});
  if (p.per_sample)
    launch_channel_sums<1>(
        device, n,
        ChannelSums<float, StoredSums<T>>{
            partial.data(), tiles.pixel_blocks, p.c, column_tiles(tiles.pixel_blocks, p.c), {p.per_sample}});
  const int partials = n * tiles.pixel_blocks;
  if (p.dbias)
    launch_channel_sums<1>(
        device, 1,
        ChannelSums<float, AddedSums>{
            partial.data(), partials, p.c, column_tiles(partials, p.c), {{p.dbias, nullptr}}});
}

}  // namespace ddpm::kernels

namespace ddpm {

template <GpuLike D, class T>
void launch(const D& device, const BiasBackward<T>& p) {
  constexpr int width = kernels::pack_width<T>;
  if (p.c % width == 0 && kernels::is_aligned<width>(p.dy))
    kernels::launch_bias_backward<width>(device, p);
  else
    kernels::launch_bias_backward<1>(device, p);
}

template <GpuLike D, class T>
void launch(const D& device, const SquaredNorm<T>& p) {
  using Policy = kernels::ReducePolicy;
  using Shared = kernels::BlockSumShared<Policy::threads>;
  // At least one block, so that an empty buffer has the norm 0.
  const unsigned needed = kernels::blocks_for(p.count, Policy::threads * kernels::quad);
  const int blocks = static_cast<int>(std::clamp<unsigned>(needed, 1, Policy::most_blocks));
  const Tensor<float, D> partial(device, {blocks});
  const bool is_vector = kernels::flat_quad_access(p.x) == kernels::QuadAccess::vector;
  kernels::launch_kernel<Shared>(device, static_cast<unsigned>(blocks), Policy::threads,
                                 is_vector
                                     ? kernels::squared_norm_kernel<Policy, kernels::QuadAccess::vector, T>
                                     : kernels::squared_norm_kernel<Policy, kernels::QuadAccess::scalar, T>,
                                 {p, partial.data()});
  kernels::launch_sum_of_partials(device, partial.view(), p.out);
}

}  // namespace ddpm
