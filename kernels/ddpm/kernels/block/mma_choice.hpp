// SPDX-License-Identifier: MIT
// Which tile of tensor cores a convolution is computed with, and in how many parts: what takes the least time on so
// many multiprocessors, by counting. Time is that of the multiprocessor with the most tiles, in multiplications;
// benchmarks/model has a fuller model, to which the choices are compared.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include <ddpm/core/device.hpp>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm::kernels {

enum class MmaTile { tall, large, flat, small };

// Of the product: rows x columns, and the depth of a slice of bf16. Products of TF32 take twice as long and its
// elements twice as many bytes, so that the same tile is the best.
struct MmaTileSize {
  int rows, columns, depth;
};

constexpr MmaTileSize size_of(MmaTile tile) {
  constexpr MmaTileSize sizes[] = {{256, 128, 32}, {128, 128, 32}, {64, 128, 32}, {64, 64, 64}};
  return sizes[static_cast<int>(tile)];
}

// Of a row or column of a slice, whatever the element.
constexpr int slice_bytes(MmaTile tile) { return size_of(tile).depth * static_cast<int>(sizeof(bf16)); }

// Of a block; two of them side by side.
constexpr int warps_of(MmaTile tile) { return tile == MmaTile::tall ? 8 : 4; }

// That a block may use, in bytes. Without the tall tile, what GpuProperties have at least.
constexpr int shared_limit_of(MmaTile tile) {
  return tile == MmaTile::tall ? 136 << 10 : GpuProperties{}.shared_bytes;
}
constexpr bool can_have(const GpuProperties& gpu, MmaTile tile) {
  return shared_limit_of(tile) <= gpu.shared_bytes;
}

// rows x columns sums over a depth.
struct MmaProduct {
  std::int64_t rows, columns, depth;
};

template <class Tile>
struct TileChoice {
  Tile tile;
  int parts;  // of the depth, each computed by tiles of its own and added at the end
};
using MmaChoice = TileChoice<MmaTile>;

struct MmaChoicePolicy {
  // Multiplications in the time in which a byte comes from L2: a multiprocessor of an A100 does 1024 per clock and
  // copies some 36 bytes, one of an H100 1300 and 28.
  static constexpr std::int64_t byte = 36;
  // That half of an H100's L2 keeps of the parts; more are written to DRAM and read from there, at half the rate.
  static constexpr std::int64_t kept_bytes = 24 << 20;
  static constexpr int least_depth = 256;  // of a part
  static constexpr int waves = 4;          // at most, that parts make of few tiles
};

constexpr std::int64_t tiles_of(const MmaProduct& p, const MmaTileSize& tile) {
  return (p.rows + tile.rows - 1) / tile.rows * ((p.columns + tile.columns - 1) / tile.columns);
}

// Elements that are copied to a tile for each of its depth.
constexpr int copied_elements(MmaTile tile) { return size_of(tile).rows + size_of(tile).columns; }

// Multiplications are the unit of time.
constexpr int time_of(MmaTile, int products) { return products; }

template <class Tile>
constexpr std::int64_t time_of(const GpuProperties& gpu, const MmaProduct& p,
                               const TileChoice<Tile>& choice) {
  using Policy = MmaChoicePolicy;
  const MmaTileSize tile = size_of(choice.tile);
  const std::int64_t blocks = tiles_of(p, tile) * choice.parts;
  const std::int64_t waves = (blocks + gpu.multiprocessors - 1) / gpu.multiprocessors;
  const std::int64_t depth =
      ((p.depth + choice.parts - 1) / choice.parts + tile.depth - 1) / tile.depth * tile.depth;
  const int operands = copied_elements(choice.tile) * static_cast<int>(sizeof(bf16));
  const std::int64_t products =
      waves * depth * (time_of(choice.tile, tile.rows * tile.columns) + Policy::byte * operands);
  if (choice.parts == 1) return products;
  const std::int64_t parts = choice.parts * p.rows * p.columns * std::int64_t{sizeof(float)};
  const int times = parts > Policy::kept_bytes ? 4 : 2;  // written, read
  return products + Policy::byte * times * parts / gpu.multiprocessors;
}

// For the forward and the backward pass to the data, whose rows are pixels.
constexpr MmaTile choose_mma_tile(const GpuProperties& gpu, std::int64_t rows, std::int64_t columns) {
  MmaTile best = MmaTile::large;
  for (const MmaTile tile : {MmaTile::tall, MmaTile::flat, MmaTile::small}) {
    const MmaProduct p{rows, columns, size_of(MmaTile::small).depth};
    if (!can_have(gpu, tile)) continue;
    // Nothing runs beside a tall tile, so most multiprocessors should have one.
    if (tile == MmaTile::tall && 4 * tiles_of(p, size_of(tile)) < 3 * gpu.multiprocessors) continue;
    if (time_of(gpu, p, MmaChoice{tile, 1}) < time_of(gpu, p, MmaChoice{best, 1})) best = tile;
  }
  return best;
}

inline MmaProduct weight_product(const Conv2dGeometry& g) {
  return {g.cout, std::int64_t{g.taps()} * g.channels(), g.pixels()};
}

// The best of some tiles for the backward pass to the weight, whose depth is pixels. Parts are as many as fill whole
// waves.
template <class Tile>
TileChoice<Tile> choose_weight_tile(const GpuProperties& gpu, const MmaProduct& p,
                                    std::initializer_list<Tile> tiles) {
  using Policy = MmaChoicePolicy;
  TileChoice<Tile> best{*tiles.begin(), 1};
  for (const Tile tile : tiles)
    for (int wave = 1; wave <= Policy::waves; ++wave) {
      const std::int64_t parts =
          std::min(std::int64_t{wave} * gpu.multiprocessors / tiles_of(p, size_of(tile)),
                   p.depth / Policy::least_depth);
      const TileChoice<Tile> choice{tile, static_cast<int>(std::max<std::int64_t>(parts, 1))};
      if (time_of(gpu, p, choice) < time_of(gpu, p, best)) best = choice;
    }
  return best;
}

inline MmaChoice choose_mma_weight(const GpuProperties& gpu, const Conv2dGeometry& g) {
  const MmaProduct p = weight_product(g);
  if (can_have(gpu, MmaTile::tall))
    return choose_weight_tile(gpu, p, {MmaTile::large, MmaTile::tall, MmaTile::small});
  return choose_weight_tile(gpu, p, {MmaTile::large, MmaTile::small});
}

}  // namespace ddpm::kernels
