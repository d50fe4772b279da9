// SPDX-License-Identifier: MIT
// Group normalisation.  Math and parameters: ddpm/ops/group_norm.hpp.
// Algorithm: threads keep one pack of channels and walk pixels; their moments are folded over pixels by
// channel, then over the channels of a group, so that a warp reads whole stretches of channels however small
// the groups are. Where whole groups of a sample fit into the registers of a block, one kernel reads, reduces
// and writes them; larger samples take one for the moments of each channel, unless the maker of x has left
// them, one that folds them to groups and one that normalises.
// Cost: reads x once, or twice where it does not fit, and writes y once.  Bound: DRAM bandwidth.
#pragma once

#include <ddpm/core/tensor.hpp>
#include <ddpm/kernels/block/channel_norm.cuh>
#include <ddpm/kernels/block/moments.cuh>
#include <ddpm/kernels/group_norm_backward.cuh>

namespace ddpm::kernels {

struct GroupNormSlabPolicy : GroupNormPolicy {
  static constexpr int items = 8;
  static constexpr int pixels = items;
};

template <class T>
struct GroupNormForwardTiles {
  GroupNormForward<T> op;
  ChannelTiles tiles;
  float*
      partial;  // [N, pixel blocks, 2, C + C2]: mean and sum of squares of each channel, where op has no moments
};

template <class T>
__device__ __forceinline__ void store_statistics(const GroupNormForward<T>& op, std::int64_t group,
                                                 const Moments& m) {
  op.mean[group] = m.mean;
  op.rstd[group] = 1.0f / std::sqrt(m.squares / m.count + op.eps);
}

// Normalises the pixels in registers, from its number `begin` on.
template <int V, int Items, class T>
__device__ __forceinline__ void store_normalised(const GroupNormForward<T>& op, const ChannelTile& own,
                                                 int begin, const ChannelNorm<V>& norm,
                                                 const Pack<T, V> (&x)[Items]) {
  const auto to = pixel_column(op.y, op.shape.hw, op.shape.channels(), own);
#pragma unroll
  for (int i = 0; i < Items; ++i) {
    if (begin + i >= own.count) continue;
    Pack<T, V> y;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const float scaled =
          (static_cast<float>(x[i][v]) - norm.mean[v]) * (norm.rstd[v] * norm.gain[v]) + norm.shift[v];
      y[v] = static_cast<T>(op.activation == Activation::silu ? silu_value(scaled) : scaled);
    }
    y.store(to.at(own.pixel(begin + i)));
  }
}

// Moments of the channels of a block.
template <int Threads, int V>
struct BlockMoments {
  ChannelValues<Threads, V> mean, squares;

  __device__ __forceinline__ void put(int v, const Moments& own) {
    mean.put(v, own.mean);
    squares.put(v, own.squares);
  }
  __device__ __forceinline__ Moments of_channel(const ChannelTiles& tiles, const ChannelTile& own,
                                                int channel) const {
    const int each = own.block_pixels / tiles.rows, rest = own.block_pixels % tiles.rows;
    return combine(tiles.rows, [&](int row) {
      return Moments{static_cast<float>(each + (row < rest)), mean.at(tiles, row, channel),
                     squares.at(tiles, row, channel)};
    });
  }
};

// Of the pixels in registers, from its number `begin` on, at channel v of the thread.
template <int V, int Items, class T>
__device__ __forceinline__ Moments moments_of(const ChannelTile& own, int begin, const Pack<T, V> (&x)[Items],
                                              int v) {
  return combine(Items, [&](int i) {
    return Moments{begin + i < own.count ? 1.0f : 0.0f, static_cast<float>(x[i][v]), 0};
  });
}

template <int V>
struct SlabShared {
  BlockMoments<GroupNormSlabPolicy::threads, V> of_rows;
  float mean[GroupNormSlabPolicy::most_columns * V];
  float squares[GroupNormSlabPolicy::most_columns * V];
};

template <class P, int V, class T>
__global__ __launch_bounds__(P::threads) void group_norm_slab_kernel(
    const __grid_constant__ GroupNormForwardTiles<T> p) {
  auto& shared = shared_memory<SlabShared<V>>();
  const GroupNormGeometry& s = p.op.shape;
  const auto own = ChannelTile::of_thread<V>(p.tiles, s.hw, s.channels());
  Pack<T, V> x[P::items];
  load_pixels<CacheHint::stream>(joined_column(p.op.x, p.op.x2, s, own), own, 0, x);
#pragma unroll
  for (int v = 0; v < V; ++v) shared.of_rows.put(v, moments_of(own, 0, x, v));
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  for (int c = thread; c < own.block_channels; c += threads) {
    const Moments m = shared.of_rows.of_channel(p.tiles, own, c);
    shared.mean[c] = m.mean;
    shared.squares[c] = m.squares;
  }
  __syncthreads();
  const int per_group = s.channels_per_group();
  const std::int64_t first_group = std::int64_t{own.sample} * s.groups + own.block_channel / per_group;
  for (int group = thread; group < own.block_channels / per_group; group += threads)
    store_statistics(p.op, first_group + group, combine(per_group, [&](int i) {
                       const int c = group * per_group + i;
                       return Moments{static_cast<float>(s.hw), shared.mean[c], shared.squares[c]};
                     }));
  __syncthreads();
  if (own.count > 0) store_normalised(p.op, own, 0, ChannelNorm<V>(p.op, own), x);
}

template <class P, int V, class T>
__global__ __launch_bounds__(P::threads) void group_norm_partials_kernel(
    const __grid_constant__ GroupNormForwardTiles<T> p) {
  auto& shared = shared_memory<BlockMoments<P::threads, V>>();
  const GroupNormGeometry& s = p.op.shape;
  const auto own = ChannelTile::of_thread<V>(p.tiles, s.hw, s.channels());
  const auto from = joined_column(p.op.x, p.op.x2, s, own);
  Moments moments[V] = {};
  for (int begin = 0; begin < own.count; begin += P::items) {
    Pack<T, V> x[P::items];
    load_pixels<CacheHint::keep>(from, own, begin, x);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const Moments next = moments_of(own, begin, x, v), before = moments[v];
      moments[v] = combine(2, [&](int i) { return i == 0 ? next : before; });
    }
  }
#pragma unroll
  for (int v = 0; v < V; ++v) shared.put(v, moments[v]);
  __syncthreads();
  float* const to = p.partial + own.block * 2 * s.channels() + own.block_channel;
  for (int c = static_cast<int>(threadIdx.x); c < own.block_channels; c += static_cast<int>(blockDim.x)) {
    const Moments m = shared.of_channel(p.tiles, own, c);
    to[c] = m.mean;
    to[s.channels() + c] = m.squares;
  }
}

// Part i of a group: one channel in one block of pixels.
template <class T>
__device__ __forceinline__ Moments part_of_group(const GroupNormForwardTiles<T>& p, std::int64_t group,
                                                 int i) {
  const GroupNormGeometry& s = p.op.shape;
  const int per_group = s.channels_per_group(), block = i / per_group;
  const int channel = static_cast<int>(group % s.groups) * per_group + i % per_group;
  const std::int64_t sample = group / s.groups;
  if (p.op.moments) {
    const std::int64_t slab = sample * moments_slabs(s.hw) + block;
    const auto& m =
        channel < s.c ? p.op.moments[slab * s.c + channel] : p.op.moments2[slab * s.c2 + (channel - s.c)];
    return {static_cast<float>(min(moments_slab, s.hw - block * moments_slab)), m.mean, m.deviation};
  }
  const float* const at = p.partial + (sample * p.tiles.pixel_blocks + block) * 2 * s.channels() + channel;
  return {static_cast<float>(min(p.tiles.pixels, s.hw - block * p.tiles.pixels)), at[0], at[s.channels()]};
}

// One warp for each group.
template <class P, class T>
__global__ __launch_bounds__(P::threads) void group_norm_statistics_kernel(
    const __grid_constant__ GroupNormForwardTiles<T> p) {
  const GroupNormGeometry& s = p.op.shape;
  const std::int64_t group = row_of_warp();
  if (group >= std::int64_t{s.n} * s.groups) return;
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  const int parts = (p.op.moments ? moments_slabs(s.hw) : p.tiles.pixel_blocks) * s.channels_per_group();
  const int of_lane = (parts - lane + warp_size - 1) / warp_size;
  const Moments own =
      of_lane > 0 ? combine(of_lane, [&](int i) { return part_of_group(p, group, lane + i * warp_size); })
                  : Moments{};
  const Moments all = warp_combine(own);
  if (lane == 0) store_statistics(p.op, group, all);
}

template <class P, int V, class T>
__global__ __launch_bounds__(P::threads) void group_norm_apply_kernel(
    const __grid_constant__ GroupNormForwardTiles<T> p) {
  const GroupNormGeometry& s = p.op.shape;
  const auto own = ChannelTile::of_thread<V>(p.tiles, s.hw, s.channels());
  if (own.count == 0) return;
  const auto from = joined_column(p.op.x, p.op.x2, s, own);
  const ChannelNorm<V> norm(p.op, own);
  for (int begin = 0; begin < own.count; begin += P::items) {
    Pack<T, V> x[P::items];
    load_pixels<CacheHint::stream>(from, own, begin, x);
    store_normalised(p.op, own, begin, norm, x);
  }
}

template <int V, GpuLike D, class T>
void launch_group_norm_slab(const D& device, const GroupNormForward<T>& p, const ChannelTiles& tiles) {
  using P = GroupNormSlabPolicy;
  launch_kernel<SlabShared<V>>(device, tiles.blocks(p.shape.n), tiles.threads(),
                               group_norm_slab_kernel<P, V, T>, {p, tiles, nullptr});
}

template <int V, GpuLike D, class T>
void launch_group_norm_streaming(const D& device, const GroupNormForward<T>& p) {
  using P = GroupNormPolicy;
  const GroupNormGeometry& s = p.shape;
  const ChannelTiles tiles = channel_tiles<P>(s.hw, s.channels() / V);
  Tensor<float, D> partial;
  if (!p.moments) partial = Tensor<float, D>(device, {s.n, tiles.pixel_blocks, 2, s.channels()});
  const GroupNormForwardTiles<T> params{p, tiles, partial.data()};
  if (!p.moments)
    launch_kernel<BlockMoments<P::threads, V>>(device, tiles.blocks(s.n), tiles.threads(),
                                               group_norm_partials_kernel<P, V, T>, params);
  launch_kernel(device, blocks_of_groups(s), P::threads, group_norm_statistics_kernel<P, T>, params);
  launch_kernel(device, tiles.blocks(s.n), tiles.threads(), group_norm_apply_kernel<P, V, T>, params);
}

template <int V, GpuLike D, class T>
void launch_group_norm(const D& device, const GroupNormForward<T>& p) {
  const ChannelTiles slab = slab_tiles<GroupNormSlabPolicy, V, T>(p.shape);
  if (slab.columns > 0)
    launch_group_norm_slab<V>(device, p, slab);
  else
    launch_group_norm_streaming<V>(device, p);
}

}  // namespace ddpm::kernels

namespace ddpm {

template <GpuLike D, class T>
void launch(const D& device, const GroupNormForward<T>& p) {
  constexpr int width = kernels::pack_width<T>;
  if (kernels::takes_packs<width>(p, p.x, p.x2, p.y))
    kernels::launch_group_norm<width>(device, p);
  else
    kernels::launch_group_norm<1>(device, p);
}

}  // namespace ddpm
