// SPDX-License-Identifier: MIT
// Gradients of group normalisation.  Math and parameters: ddpm/ops/group_norm.hpp.
// Algorithm: sums of dv, of dv * x and of x by channel, where dv is the gradient before the activation and x is
// normalised; one warp folds those of a group to what dx needs, and to the sums of dx, which are linear in them;
// dx; the gradients of gamma and beta as column sums over the samples. Where whole groups of a sample fit into the
// shared memory of a block, one kernel does all but the last; larger samples take one for each step.
// Cost: reads x and dy once, or twice where they do not fit, writes dx once.  Bound: DRAM bandwidth.
#pragma once

#include <ddpm/core/tensor.hpp>
#include <ddpm/kernels/block/channel_norm.cuh>
#include <ddpm/kernels/block/reduce.cuh>

namespace ddpm::kernels {

template <class T>
struct GroupNormBackwardTiles {
  GroupNormBackward<T> op;
  ChannelTiles tiles;
  float* partial;     // [N, pixel blocks, 3, C + C2], see GradientSums
  float* per_sample;  // [2, N, C + C2]: gradients of gamma and of beta
  float* means;       // [N, G, 2], see GradientMeans
};

// Of a channel over pixels, x normalised.
struct GradientSums {
  float dv, dv_x, x;
};

// Over a group: of gamma * du, and of gamma * du * x, x normalised.
struct GradientMeans {
  float du, du_x;
};

// The sums of the threads of a block, which other threads take together.
template <int V>
struct ChannelGradientsShared {
  ChannelValues<GroupNormPolicy::threads, V> dv, dv_x, x;

  __device__ __forceinline__ void put(int v, const GradientSums& own) {
    dv.put(v, own.dv);
    dv_x.put(v, own.dv_x);
    x.put(v, own.x);
  }
  __device__ __forceinline__ GradientSums of_channel(const ChannelTiles& tiles, int channel) const {
    return {dv.sum_of_rows(tiles, channel), dv_x.sum_of_rows(tiles, channel), x.sum_of_rows(tiles, channel)};
  }
};

// sums += those of a pixel.
template <int V, class T>
__device__ __forceinline__ void add_pixel(const ChannelNorm<V>& norm, Activation activation,
                                          const Pack<T, V>& x, const Pack<T, V>& dy,
                                          GradientSums (&sums)[V]) {
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const float normalised = norm.normalised(v, static_cast<float>(x[v]));
    const float dv = norm.gradient(v, normalised, static_cast<float>(dy[v]), activation);
    sums[v].dv += dv;
    sums[v].dv_x += dv * normalised;
    sums[v].x += normalised;
  }
}

// Leaves the sums of every thread in `shared`; keep(i, x, dy) gets the thread's pixel number i.
template <class P, int V, CacheHint Hint, class T, class Keep>
__device__ __forceinline__ void sum_pixels(const GroupNormBackward<T>& p, const ChannelTile& own,
                                           ChannelGradientsShared<V>& shared, Keep keep) {
  GradientSums sums[V] = {};
  if (own.count > 0) {
    const ChannelNorm<V> norm(p, own);
    const auto x_from = joined_column(p.x, p.x2, p.shape, own);
    const auto dy_from = pixel_column(p.dy, p.shape.hw, p.shape.channels(), own);
    for (int begin = 0; begin < own.count; begin += P::backward_items) {
      Pack<T, V> x[P::backward_items], dy[P::backward_items];
      load_pixels<Hint>(x_from, own, begin, x);
      load_pixels<Hint>(dy_from, own, begin, dy);
#pragma unroll
      for (int i = 0; i < P::backward_items; ++i) {
        if (begin + i >= own.count) continue;
        keep(begin + i, x[i], dy[i]);
        add_pixel(norm, p.activation, x[i], dy[i], sums);
      }
    }
  }
#pragma unroll
  for (int v = 0; v < V; ++v) shared.put(v, sums[v]);
  __syncthreads();
}

template <class P, int V, class T>
__global__ __launch_bounds__(P::threads) void group_norm_backward_partials_kernel(
    const __grid_constant__ GroupNormBackwardTiles<T> p) {
  auto& shared = shared_memory<ChannelGradientsShared<V>>();
  const GroupNormGeometry& s = p.op.shape;
  const auto own = ChannelTile::of_thread<V>(p.tiles, s.hw, s.channels());
  sum_pixels<P, V, CacheHint::keep>(p.op, own, shared, [](int, const auto&, const auto&) {});
  float* const to = p.partial + own.block * 3 * s.channels() + own.block_channel;
  for (int c = static_cast<int>(threadIdx.x); c < own.block_channels; c += static_cast<int>(blockDim.x)) {
    const GradientSums sum = shared.of_channel(p.tiles, c);
    to[c] = sum.dv;
    to[c + s.channels()] = sum.dv_x;
    to[c + 2 * s.channels()] = sum.x;
  }
}

// Of a channel in all pixel blocks of a sample.
template <class T>
__device__ __forceinline__ GradientSums sums_of_sample(const GroupNormBackwardTiles<T>& p,
                                                       std::int64_t sample, int channel) {
  const int channels = p.op.shape.channels();
  GradientSums sums{};
  for (int block = 0; block < p.tiles.pixel_blocks; ++block) {
    const float* const at = p.partial + (sample * p.tiles.pixel_blocks + block) * 3 * channels + channel;
    sums.dv += at[0];
    sums.dv_x += at[channels];
    sums.x += at[2 * channels];
  }
  return sums;
}

// What a warp makes of the sums of a group, which sums_of(channel) gives: this sample's share of the gradients of
// gamma and beta, those of scale and shift, the sums of dx, and the means that dx needs.
template <class T, class SumsOf>
__device__ __forceinline__ GradientMeans fold_group(const GroupNormBackward<T>& p, float* per_sample,
                                                    std::int64_t sample, int group, SumsOf sums_of) {
  const GroupNormGeometry& s = p.shape;
  const int lane = static_cast<int>(threadIdx.x % warp_size), per_group = s.channels_per_group();
  const int channels = s.channels(), first = group * per_group;
  const auto scale_of = [&](int c) {
    return p.scale_shift ? 1 + static_cast<float>(p.scale_shift[sample * 2 * channels + c]) : 1.0f;
  };
  GradientMeans means{};
  for (int c = first + lane; c < first + per_group; c += warp_size) {
    const GradientSums sums = sums_of(c);
    if (p.dscale_shift) {
      T* const gradient = p.dscale_shift + sample * 2 * channels + c;
      gradient[0] = static_cast<T>(p.gamma[c] * sums.dv_x + p.beta[c] * sums.dv);
      gradient[channels] = static_cast<T>(sums.dv);
    }
    const float scale = scale_of(c);
    float* const gradient = per_sample + sample * channels + c;
    gradient[0] = scale * sums.dv_x;
    gradient[std::int64_t{s.n} * channels] = scale * sums.dv;
    means.du += p.gamma[c] * scale * sums.dv;
    means.du_x += p.gamma[c] * scale * sums.dv_x;
  }
  const float count = static_cast<float>(s.hw) * static_cast<float>(per_group);
  means = {warp_sum(means.du) / count, warp_sum(means.du_x) / count};
  if (p.dx_sums)
    for (int c = first + lane; c < first + per_group; c += warp_size) {
      const GradientSums sums = sums_of(c);
      const float du =
          p.gamma[c] * scale_of(c) * sums.dv - static_cast<float>(s.hw) * means.du - means.du_x * sums.x;
      p.dx_sums[sample * channels + c] = static_cast<T>(p.rstd[sample * s.groups + group] * du);
    }
  return means;
}

// One warp for each group.
template <class P, class T>
__global__ __launch_bounds__(P::threads) void group_norm_backward_sums_kernel(
    const __grid_constant__ GroupNormBackwardTiles<T> p) {
  const int groups = p.op.shape.groups;
  const std::int64_t group = row_of_warp(), sample = group / groups;
  if (sample >= p.op.shape.n) return;
  const GradientMeans means = fold_group(p.op, p.per_sample, sample, static_cast<int>(group % groups),
                                         [&](int channel) { return sums_of_sample(p, sample, channel); });
  if (threadIdx.x % warp_size == 0) {
    p.means[2 * group] = means.du;
    p.means[2 * group + 1] = means.du_x;
  }
}

// dx of a thread's pixels; means_of(group) are those of a group, load(begin, x, dy) brings both from the thread's
// pixel number `begin` on.
template <class P, int V, class T, class MeansOf, class Load>
__device__ __forceinline__ void store_gradients(const GroupNormBackward<T>& p, const ChannelTile& own,
                                                MeansOf means_of, Load load) {
  const GroupNormGeometry& s = p.shape;
  const ChannelNorm<V> norm(p, own);
  GradientMeans means[V];
  for_each_group<V>(s, own, [&](int v, std::int64_t group) { means[v] = means_of(group); });
  const auto add_from = joined_column(p.add, p.add2, s, own);
  const auto also_from = joined_column<const T>(p.also, nullptr, s, own);
  const auto to = joined_column(p.dx, p.dx2, s, own);
  for (int begin = 0; begin < own.count; begin += P::backward_items) {
    Pack<T, V> x[P::backward_items], dy[P::backward_items];
    Pack<T, V> add[P::backward_items] = {}, also[P::backward_items] = {};
    load(begin, x, dy);
    if (add_from.data) load_pixels<CacheHint::stream>(add_from, own, begin, add);
    if (also_from.data) load_pixels<CacheHint::stream>(also_from, own, begin, also);
#pragma unroll
    for (int i = 0; i < P::backward_items; ++i) {
      if (begin + i >= own.count) continue;
      Pack<T, V> dx;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const float normalised = norm.normalised(v, static_cast<float>(x[i][v]));
        const float dv = norm.gradient(v, normalised, static_cast<float>(dy[i][v]), p.activation);
        const float du = norm.gain[v] * dv - means[v].du - normalised * means[v].du_x;
        dx[v] = static_cast<T>(norm.rstd[v] * du + static_cast<float>(add[i][v]) +
                               static_cast<float>(also[i][v]));
      }
      dx.store(to.at(own.pixel(begin + i)));
    }
  }
}

template <class P, int V, class T>
__global__ __launch_bounds__(P::threads) void group_norm_backward_kernel(
    const __grid_constant__ GroupNormBackwardTiles<T> p) {
  const GroupNormGeometry& s = p.op.shape;
  const auto own = ChannelTile::of_thread<V>(p.tiles, s.hw, s.channels());
  if (own.count == 0) return;
  const auto x_from = joined_column(p.op.x, p.op.x2, s, own);
  const auto dy_from = pixel_column(p.op.dy, s.hw, s.channels(), own);
  store_gradients<P, V>(
      p.op, own,
      [&](std::int64_t group) {
        return GradientMeans{p.means[2 * group], p.means[2 * group + 1]};
      },
      [&](int begin, auto& x, auto& dy) {
        load_pixels<CacheHint::stream>(x_from, own, begin, x);
        load_pixels<CacheHint::stream>(dy_from, own, begin, dy);
      });
}

template <int Items>
struct GradientSlabPolicy : GroupNormPolicy {
  static constexpr int items = Items;
  static constexpr int pixels = Items;
};

template <class P, int V, class T>
struct GradientSlabShared {
  Pack<T, V> x[P::items][P::threads], dy[P::items][P::threads];  // of each thread
  ChannelGradientsShared<V> of_rows;
  GradientSums of_channel[P::most_columns * V];
  float du[P::most_columns * V],
      du_x[P::most_columns * V];  // means of each group; neighbours in different banks
};

template <class P, int V, class T>
__global__ __launch_bounds__(P::threads) void group_norm_backward_slab_kernel(
    const __grid_constant__ GroupNormBackwardTiles<T> p) {
  auto& shared = shared_memory<GradientSlabShared<P, V, T>>();
  const GroupNormGeometry& s = p.op.shape;
  const auto own = ChannelTile::of_thread<V>(p.tiles, s.hw, s.channels());
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  sum_pixels<P, V, CacheHint::stream>(p.op, own, shared.of_rows, [&](int i, const auto& x, const auto& dy) {
    x.store(shared.x[i][thread].value);
    dy.store(shared.dy[i][thread].value);
  });
  for (int c = thread; c < own.block_channels; c += threads)
    shared.of_channel[c] = shared.of_rows.of_channel(p.tiles, c);
  __syncthreads();
  const int per_group = s.channels_per_group(), first_group = own.block_channel / per_group;
  for (int i = thread / warp_size; i < own.block_channels / per_group; i += threads / warp_size) {
    const GradientMeans means = fold_group(p.op, p.per_sample, own.sample, first_group + i, [&](int channel) {
      return shared.of_channel[channel - own.block_channel];
    });
    if (thread % warp_size == 0) {
      shared.du[i] = means.du;
      shared.du_x[i] = means.du_x;
    }
  }
  __syncthreads();
  if (own.count == 0) return;
  store_gradients<P, V>(
      p.op, own,
      [&](std::int64_t group) {
        const auto i = static_cast<int>(group - std::int64_t{own.sample} * s.groups) - first_group;
        return GradientMeans{shared.du[i], shared.du_x[i]};
      },
      [&](int begin, auto& x, auto& dy) {
#pragma unroll
        for (int i = 0; i < P::backward_items; ++i) {
          if (begin + i >= own.count) continue;
          x[i] = Pack<T, V>::load(shared.x[begin + i][thread].value);
          dy[i] = Pack<T, V>::load(shared.dy[begin + i][thread].value);
        }
      });
}

// gradient[i][c] += the sum over samples of per_sample[i][n][c].
struct GroupNormParameterSums {
  const float* per_sample;  // [2, N, C]
  int n, channels;
  ChannelTiles tiles;  // over samples
  float* gradient[2];
};

template <class P>
__global__ __launch_bounds__(P::threads) void group_norm_backward_parameters_kernel(
    const __grid_constant__ GroupNormParameterSums p) {
  auto& shared = shared_memory<ChannelValues<P::threads, 1>>();
  const auto own = ChannelTile::of_thread<1>(p.tiles, p.n, p.channels);
  const auto from = pixel_column(p.per_sample, p.n, p.channels, own);
  float sum = 0;
#pragma unroll 4
  for (int i = 0; i < own.count; ++i) sum += *from.at(own.pixel(i));
  shared.put(0, sum);
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < own.block_channels; c += static_cast<int>(blockDim.x))
    p.gradient[own.sample][own.block_channel + c] += shared.sum_of_rows(p.tiles, c);
}

// Of what each sample has left in per_sample.
template <GpuLike D, class T>
void launch_group_norm_parameters(const D& device, const GroupNormBackward<T>& p, const float* per_sample) {
  using P = GroupNormPolicy;
  constexpr int columns = 8;  // a sector of floats
  const int n = p.shape.n, channels = p.shape.channels();
  const ChannelTiles tiles{columns, std::clamp(n, 1, P::threads / columns), n, 1,
                           static_cast<int>(blocks_for(channels, columns))};
  launch_kernel<ChannelValues<P::threads, 1>>(device, tiles.blocks(2), tiles.threads(),
                                              group_norm_backward_parameters_kernel<P>,
                                              {per_sample, n, channels, tiles, {p.dgamma, p.dbeta}});
}

// Whether slabs of P fit; else nothing is done.
template <class P, int V, GpuLike D, class T>
bool launch_group_norm_backward_slab(const D& device, const GroupNormBackward<T>& p) {
  using Shared = GradientSlabShared<P, V, T>;
  const GroupNormGeometry& s = p.shape;
  const ChannelTiles tiles = slab_tiles<P, V, T>(s);
  if (tiles.columns == 0 || static_cast<int>(sizeof(Shared)) > device.properties().shared_bytes) return false;
  const Tensor<float, D> per_sample(device, {2, s.n, s.channels()});
  launch_kernel<Shared>(device, tiles.blocks(s.n), tiles.threads(), group_norm_backward_slab_kernel<P, V, T>,
                        {p, tiles, nullptr, per_sample.data(), nullptr});
  launch_group_norm_parameters(device, p, per_sample.data());
  return true;
}

template <int V, GpuLike D, class T>
void launch_group_norm_backward_streaming(const D& device, const GroupNormBackward<T>& p) {
  using P = GroupNormPolicy;
  const GroupNormGeometry& s = p.shape;
  const ChannelTiles tiles = channel_tiles<P>(s.hw, s.channels() / V);
  const Tensor<float, D> partial(device, {s.n, tiles.pixel_blocks, 3, s.channels()});
  const Tensor<float, D> per_sample(device, {2, s.n, s.channels()}), means(device, {s.n, s.groups, 2});
  const GroupNormBackwardTiles<T> params{p, tiles, partial.data(), per_sample.data(), means.data()};
  launch_kernel<ChannelGradientsShared<V>>(device, tiles.blocks(s.n), tiles.threads(),
                                           group_norm_backward_partials_kernel<P, V, T>, params);
  launch_kernel(device, blocks_of_groups(s), P::threads, group_norm_backward_sums_kernel<P, T>, params);
  launch_kernel(device, tiles.blocks(s.n), tiles.threads(), group_norm_backward_kernel<P, V, T>, params);
  launch_group_norm_parameters(device, p, per_sample.data());
}

template <int V, GpuLike D, class T>
void launch_group_norm_backward(const D& device, const GroupNormBackward<T>& p) {
  if (!launch_group_norm_backward_slab<GradientSlabPolicy<8>, V>(device, p) &&
      !launch_group_norm_backward_slab<GradientSlabPolicy<16>, V>(device, p))
    launch_group_norm_backward_streaming<V>(device, p);
}

}  // namespace ddpm::kernels

namespace ddpm {

template <GpuLike D, class T>
void launch(const D& device, const GroupNormBackward<T>& p) {
  constexpr int width = kernels::pack_width<T>;
  if (kernels::takes_packs<width>(p, p.dy, p.x, p.x2, p.add, p.add2, p.also, p.dx, p.dx2))
    kernels::launch_group_norm_backward<width>(device, p);
  else
    kernels::launch_group_norm_backward<1>(device, p);
}

}  // namespace ddpm
