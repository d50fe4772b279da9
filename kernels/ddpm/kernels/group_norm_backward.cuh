// SPDX-License-Identifier: MIT
// Gradients of group normalisation.  Math and parameters: ddpm/ops/group_norm.hpp.
// Algorithm: sums of dv and of dv * x by channel, where dv is the gradient before the activation and x is
// normalised; one warp folds those of a group to what dx needs; dx; the gradients of gamma and beta as column
// sums over the samples.
// Cost: reads x and dy twice, writes dx once.  Bound: DRAM bandwidth.
#pragma once

#include <ddpm/core/tensor.hpp>
#include <ddpm/kernels/block/channel_norm.cuh>
#include <ddpm/kernels/block/reduce.cuh>
#include <ddpm/kernels/reduce.cuh>

namespace ddpm::kernels {

template <class T>
struct GroupNormBackwardTiles {
  GroupNormBackward<T> op;
  ChannelTiles tiles;
  float* partial;     // [N, pixel blocks, 2, C + C2]: sums of dv and of dv * x, x normalised
  float* per_sample;  // [2, N, C + C2]: gradients of gamma and of beta
  float* means;       // [N, G, 2]: over a group, of gamma * du and of gamma * du * x
};

template <int V>
struct ChannelGradientsShared {
  ChannelValues<GroupNormPolicy::threads, V> sum, sum_normalised;
};

template <class P, int V, class T>
__global__ __launch_bounds__(P::threads) void group_norm_backward_partials_kernel(
    const __grid_constant__ GroupNormBackwardTiles<T> p) {
  auto& shared = shared_memory<ChannelGradientsShared<V>>();
  const GroupNormGeometry& s = p.op.shape;
  const auto own = ChannelTile::of_thread<V>(p.tiles, s.hw, s.channels());
  float sum[V] = {}, sum_normalised[V] = {};
  if (own.count > 0) {
    const ChannelNorm<V> norm(p.op, own);
    const auto x_from = joined_column(p.op.x, p.op.x2, s, own);
    const auto dy_from = pixel_column(p.op.dy, s.hw, s.channels(), own);
    for (int begin = 0; begin < own.count; begin += P::backward_items) {
      Pack<T, V> x[P::backward_items], dy[P::backward_items];
      load_pixels<CacheHint::keep>(x_from, own, begin, x);
      load_pixels<CacheHint::keep>(dy_from, own, begin, dy);
#pragma unroll
      for (int i = 0; i < P::backward_items; ++i)
#pragma unroll
        for (int v = 0; v < V; ++v) {
          const float normalised = norm.normalised(v, static_cast<float>(x[i][v]));
          const float dv = norm.gradient(v, normalised, static_cast<float>(dy[i][v]), p.op.activation);
          sum[v] += dv;
          sum_normalised[v] += dv * normalised;
        }
    }
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    shared.sum.put(v, sum[v]);
    shared.sum_normalised.put(v, sum_normalised[v]);
  }
  __syncthreads();
  float* const to = p.partial + own.block * 2 * s.channels() + own.block_channel;
  for (int c = static_cast<int>(threadIdx.x); c < own.block_channels; c += static_cast<int>(blockDim.x)) {
    to[c] = shared.sum.sum_of_rows(p.tiles, c);
    to[s.channels() + c] = shared.sum_normalised.sum_of_rows(p.tiles, c);
  }
}

// One warp for each group.
template <class P, class T>
__global__ __launch_bounds__(P::threads) void group_norm_backward_sums_kernel(
    const __grid_constant__ GroupNormBackwardTiles<T> p) {
  const GroupNormGeometry& s = p.op.shape;
  const std::int64_t group = row_of_warp();
  if (group >= std::int64_t{s.n} * s.groups) return;
  const int lane = static_cast<int>(threadIdx.x % warp_size), per_group = s.channels_per_group();
  const int channels = s.channels(), first = static_cast<int>(group % s.groups) * per_group;
  const std::int64_t sample = group / s.groups;
  float mean = 0, mean_normalised = 0;
  for (int c = first + lane; c < first + per_group; c += warp_size) {
    float dv = 0, dv_normalised = 0;
    for (int block = 0; block < p.tiles.pixel_blocks; ++block) {
      const float* const at = p.partial + (sample * p.tiles.pixel_blocks + block) * 2 * channels + c;
      dv += at[0];
      dv_normalised += at[channels];
    }
    const std::int64_t scale_at = sample * 2 * channels + c;
    if (p.op.dscale_shift) {
      p.op.dscale_shift[scale_at] = static_cast<T>(p.op.gamma[c] * dv_normalised + p.op.beta[c] * dv);
      p.op.dscale_shift[scale_at + channels] = static_cast<T>(dv);
    }
    const float scale = p.op.scale_shift ? 1 + static_cast<float>(p.op.scale_shift[scale_at]) : 1.0f;
    float* const gradient = p.per_sample + sample * channels + c;
    gradient[0] = scale * dv_normalised;
    gradient[std::int64_t{s.n} * channels] = scale * dv;
    mean += p.op.gamma[c] * scale * dv;
    mean_normalised += p.op.gamma[c] * scale * dv_normalised;
  }
  const float count = static_cast<float>(s.hw) * static_cast<float>(per_group);
  mean = warp_sum(mean) / count;
  mean_normalised = warp_sum(mean_normalised) / count;
  if (lane == 0) {
    p.means[2 * group] = mean;
    p.means[2 * group + 1] = mean_normalised;
  }
}

template <class P, int V, class T>
__global__ __launch_bounds__(P::threads) void group_norm_backward_kernel(
    const __grid_constant__ GroupNormBackwardTiles<T> p) {
  const GroupNormGeometry& s = p.op.shape;
  const auto own = ChannelTile::of_thread<V>(p.tiles, s.hw, s.channels());
  if (own.count == 0) return;
  const ChannelNorm<V> norm(p.op, own);
  float mean[V], mean_normalised[V];
  for_each_group<V>(s, own, [&](int v, std::int64_t group) {
    mean[v] = p.means[2 * group];
    mean_normalised[v] = p.means[2 * group + 1];
  });
  const auto x_from = joined_column(p.op.x, p.op.x2, s, own),
             add_from = joined_column(p.op.add, p.op.add2, s, own);
  const auto dy_from = pixel_column(p.op.dy, s.hw, s.channels(), own);
  const auto to = joined_column(p.op.dx, p.op.dx2, s, own);
  for (int begin = 0; begin < own.count; begin += P::backward_items) {
    Pack<T, V> x[P::backward_items], dy[P::backward_items], add[P::backward_items] = {};
    load_pixels<CacheHint::stream>(x_from, own, begin, x);
    load_pixels<CacheHint::stream>(dy_from, own, begin, dy);
    if (add_from.data) load_pixels<CacheHint::stream>(add_from, own, begin, add);
#pragma unroll
    for (int i = 0; i < P::backward_items; ++i) {
      if (begin + i >= own.count) continue;
      Pack<T, V> dx;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const float normalised = norm.normalised(v, static_cast<float>(x[i][v]));
        const float dv = norm.gradient(v, normalised, static_cast<float>(dy[i][v]), p.op.activation);
        const float du = norm.gain[v] * dv - mean[v] - normalised * mean_normalised[v];
        dx[v] = static_cast<T>(norm.rstd[v] * du + static_cast<float>(add[i][v]));
      }
      dx.store(to.at(own.pixel(begin + i)));
    }
  }
}

template <int V, GpuLike D, class T>
void launch_group_norm_backward(const D& device, const GroupNormBackward<T>& p) {
  using P = GroupNormPolicy;
  const GroupNormGeometry& s = p.shape;
  const ChannelTiles tiles = channel_tiles<P>(s.hw, s.channels() / V);
  const Tensor<float, D> partial(device, {s.n, tiles.pixel_blocks, 2, s.channels()});
  const Tensor<float, D> per_sample(device, {2, s.n, s.channels()}), means(device, {s.n, s.groups, 2});
  const GroupNormBackwardTiles<T> params{p, tiles, partial.data(), per_sample.data(), means.data()};
  launch_kernel<ChannelGradientsShared<V>>(device, tiles.blocks(s.n), tiles.threads(),
                                           group_norm_backward_partials_kernel<P, V, T>, params);
  launch_kernel(device, blocks_of_groups(s), P::threads, group_norm_backward_sums_kernel<P, T>, params);
  launch_kernel(device, tiles.blocks(s.n), tiles.threads(), group_norm_backward_kernel<P, V, T>, params);
  launch_channel_sums<1>(
      device, 2,
      ChannelSums<float, AddedSums>{
          per_sample.data(), s.n, s.channels(), column_tiles(s.n, s.channels()), {{p.dgamma, p.dbeta}}});
}

}  // namespace ddpm::kernels

namespace ddpm {

template <GpuLike D, class T>
void launch(const D& device, const GroupNormBackward<T>& p) {
  constexpr int width = kernels::pack_width<T>;
  if (kernels::takes_packs<width>(p, p.dy, p.x, p.x2, p.add, p.add2, p.dx, p.dx2))
    kernels::launch_group_norm_backward<width>(device, p);
  else
    kernels::launch_group_norm_backward<1>(device, p);
}

}  // namespace ddpm
