// SPDX-License-Identifier: MIT
// Channel tiles: how the threads of a grid lie over activations [N, HW, C] so that each keeps its channels,
// warps read neighbouring ones, and sums over pixels meet in shared memory in an order that the shape alone
// decides.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ddpm/kernels/launch.cuh>
#include <ddpm/kernels/pack.cuh>

namespace ddpm::kernels {

struct ChannelTilePolicy {
  static constexpr int threads = 256;
  static constexpr int most_columns = 64;
  static constexpr int pixels = 32;  // of a thread
};

// A block walks `pixels` pixels of one sample, `rows` of them at a time, and has `columns` packs of their
// channels.
struct ChannelTiles {
  int columns, rows;
  int pixels;                        // the last block of a sample may have fewer
  int pixel_blocks, channel_blocks;  // of a sample

  unsigned threads() const { return blocks_for(columns * rows, warp_size) * warp_size; }
  unsigned blocks(int samples) const {
    return static_cast<unsigned>(samples) * static_cast<unsigned>(pixel_blocks * channel_blocks);
  }
};

// Tiles that are `columns` packs wide, over `packs`.
template <class P = ChannelTilePolicy>
ChannelTiles channel_tiles(int hw, int packs, int columns) {
  const auto ceil_div = [](int a, int b) { return static_cast<int>(blocks_for(a, b)); };
  ChannelTiles tiles{};
  tiles.columns = columns;
  tiles.rows = std::clamp(hw, 1, P::threads / columns);
  tiles.pixels = ceil_div(hw, std::max(1, ceil_div(hw, tiles.rows * P::pixels)));
  tiles.pixel_blocks = std::max(1, ceil_div(hw, std::max(1, tiles.pixels)));
  tiles.channel_blocks = ceil_div(packs, columns);
  return tiles;
}

// As wide as the policy allows, the channels shared out evenly.
template <class P = ChannelTilePolicy>
ChannelTiles channel_tiles(int hw, int packs) {
  const unsigned blocks = std::max(1u, blocks_for(packs, P::most_columns));
  return channel_tiles<P>(hw, packs,
                          std::max(1, static_cast<int>(blocks_for(packs, static_cast<int>(blocks)))));
}

// The part of a thread.
struct ChannelTile {
  std::int64_t block;  // of pixels, counted over all samples
  int sample;
  int block_channel, block_channels;  // the first of the block, and how many
  int block_pixels;
  int channel;             // the first of the thread's pack
  int first, step, count;  // the thread's pixels; none if it has no channels

  __device__ __forceinline__ int pixel(int i) const { return first + i * step; }

  template <int V>
  __device__ __forceinline__ static ChannelTile of_thread(const ChannelTiles& t, int hw, int channels) {
    const int thread = static_cast<int>(threadIdx.x), row = thread / t.columns;
    const auto block = static_cast<int>(blockIdx.x / static_cast<unsigned>(t.channel_blocks));
    const int first_pixel = block % t.pixel_blocks * t.pixels;
    ChannelTile own;
    own.block = block;
    own.sample = block / t.pixel_blocks;
    own.block_channel =
        static_cast<int>(blockIdx.x % static_cast<unsigned>(t.channel_blocks)) * t.columns * V;
    own.block_channels = min(t.columns * V, channels - own.block_channel);
    own.block_pixels = min(t.pixels, hw - first_pixel);
    own.channel = own.block_channel + thread % t.columns * V;
    own.first = first_pixel + row;
    own.step = t.rows;
    own.count = row < t.rows && own.channel < channels ? (own.block_pixels - row + t.rows - 1) / t.rows : 0;
    return own;
  }
};

// The pixels of one sample at one channel; `data` may be null.
template <class T>
struct PixelColumn {
  T* data;
  std::int64_t first;
  int stride;

  __device__ __forceinline__ T* at(int pixel) const { return data + first + std::int64_t{pixel} * stride; }
};

template <class T>
__device__ __forceinline__ PixelColumn<T> pixel_column(T* data, int hw, int channels,
                                                       const ChannelTile& own) {
  return {data, std::int64_t{own.sample} * hw * channels + own.channel, channels};
}

// The next Items pixels of a thread, from its number `begin` on; zeros beyond the last.
template <CacheHint Hint, int V, int Items, class T>
__device__ __forceinline__ void load_pixels(const PixelColumn<const T>& from, const ChannelTile& own,
                                            int begin, Pack<T, V> (&to)[Items]) {
#pragma unroll
  for (int i = 0; i < Items; ++i) {
    to[i] = {};
    if (begin + i < own.count) to[i] = Pack<T, V>::template load<Hint>(from.at(own.pixel(begin + i)));
  }
}

// Values of each thread for each channel of its pack, which another thread takes together by channels.
template <int Threads, int V>
struct ChannelValues {
  // Padded, so that neighbouring channels lie in different banks.
  float value[V][Threads + warp_size / V];

  __device__ __forceinline__ void put(int v, float from) { value[v][threadIdx.x] = from; }
  // Of channel `channel` of the block, from the threads of one row.
  __device__ __forceinline__ float at(const ChannelTiles& tiles, int row, int channel) const {
    return value[channel % V][row * tiles.columns + channel / V];
  }
  __device__ __forceinline__ float sum_of_rows(const ChannelTiles& tiles, int channel) const {
    float sum = 0;
    for (int row = 0; row < tiles.rows; ++row) sum += at(tiles, row, channel);
    return sum;
  }
};

}  // namespace ddpm::kernels
