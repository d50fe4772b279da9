// SPDX-License-Identifier: MIT
// What the kernels of group normalisation share: where a thread finds its channels, and the map that
// normalises them.
#pragma once

#include <numeric>

#include <ddpm/kernels/block/channel_tile.cuh>
#include <ddpm/ops/group_norm.hpp>

namespace ddpm::kernels {

struct GroupNormPolicy : ChannelTilePolicy {
  static constexpr int items = 4;           // packs of a thread in registers, forward
  static constexpr int backward_items = 2;  // and of each operand, backward
};

// Pixels of x, or of x2 if the channels of the thread lie there.
template <class T>
__device__ __forceinline__ PixelColumn<T> joined_column(T* x, T* x2, const GroupNormGeometry& s,
                                                        ChannelTile own) {
  const bool is_first = own.channel < s.c;
  if (!is_first) own.channel -= s.c;
  return pixel_column(is_first ? x : x2, s.hw, is_first ? s.c : s.c2, own);
}

// Calls use(v, group) for the group, counted over all samples, of each channel of a thread.
template <int V, class Use>
__device__ __forceinline__ void for_each_group(const GroupNormGeometry& s, const ChannelTile& own, Use use) {
  const int per_group = s.channels_per_group();
  std::int64_t group = std::int64_t{own.sample} * s.groups + own.channel / per_group;
  int within = own.channel % per_group;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    use(v, group);
    if (++within == per_group) ++group, within = 0;
  }
}

// V neighbouring values, by the widest accesses there are.
template <int V, class T>
__device__ __forceinline__ void load_channels(const T* from, float (&to)[V]) {
  constexpr int width = V < pack_width<T> ? V : pack_width<T>;
#pragma unroll
  for (int first = 0; first < V; first += width) {
    const auto pack = Pack<T, width>::load(from + first);
#pragma unroll
    for (int i = 0; i < width; ++i) to[first + i] = static_cast<float>(pack[i]);
  }
}

// v = normalised(x) * gain + shift for the channels of a thread.
template <int V>
struct ChannelNorm {
  float mean[V], rstd[V], gain[V], shift[V];

  template <class Op>
  __device__ __forceinline__ ChannelNorm(const Op& op, const ChannelTile& own) {
    load_channels(op.gamma + own.channel, gain);
    load_channels(op.beta + own.channel, shift);
    if (op.scale_shift) {
      const int channels = op.shape.channels();
      const auto* const at = op.scale_shift + std::int64_t{own.sample} * 2 * channels + own.channel;
      float scale[V], added[V];
      load_channels(at, scale);
      load_channels(at + channels, added);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        gain[v] *= 1 + scale[v];
        shift[v] = shift[v] * (1 + scale[v]) + added[v];
      }
    }
    for_each_group<V>(op.shape, own, [&](int v, std::int64_t group) {
      mean[v] = op.mean[group];
      rstd[v] = op.rstd[group];
    });
  }

  __device__ __forceinline__ float normalised(int v, float x) const { return (x - mean[v]) * rstd[v]; }

  // The gradient of v, given that of activation(v).
  __device__ __forceinline__ float gradient(int v, float normalised, float dy, Activation activation) const {
    return activation == Activation::silu ? dy * silu_slope(normalised * gain[v] + shift[v]) : dy;
  }
};

// Whether threads may take packs of V channels: none of them straddles x and x2, all are aligned.
template <int V, class Op, class... T>
bool takes_packs(const Op& p, const T*... activations) {
  return p.shape.c % V == 0 && p.shape.c2 % V == 0 && is_aligned<V>(p.scale_shift) &&
         is_aligned<pack_width<float>>(p.gamma) && is_aligned<pack_width<float>>(p.beta) &&
         (is_aligned<V>(activations) && ...);
}

// Tiles in which a block has a slab, all pixels of whole groups of one sample, of `items` packs for each thread; no
// columns if there are none.
template <class P, int V, class T>
ChannelTiles slab_tiles(const GroupNormGeometry& s) {
  constexpr int element = static_cast<int>(sizeof(T)), sector = 32;
  constexpr int least_bytes = 64;  // of a pixel, where a block does not have all of its channels
  const int rows = std::max(1, static_cast<int>(blocks_for(s.hw, P::items))), packs = s.channels() / V;
  int columns = std::min({P::most_columns, P::threads / rows, packs});
  if (columns < packs) {
    // Blocks share no group and no sector of memory.
    const int unit = std::lcm(s.channels_per_group(), sector / element) / V;
    columns -= columns % unit;
    if (columns * V * element < least_bytes) return {};
  }
  return columns == 0 ? ChannelTiles{} : channel_tiles<P>(s.hw, packs, columns);
}

// Enough for one warp for each group.
inline unsigned blocks_of_groups(const GroupNormGeometry& s) {
  return blocks_for(std::int64_t{s.n} * s.groups, GroupNormPolicy::threads / warp_size);
}

}  // namespace ddpm::kernels
