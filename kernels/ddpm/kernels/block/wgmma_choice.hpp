// SPDX-License-Identifier: MIT
// Which tile of wgmma a convolution is computed with, by the counting of mma_choice.hpp.
#pragma once

#include <ddpm/kernels/block/mma_choice.hpp>

namespace ddpm::kernels {

enum class WgmmaTile { square, tall, wide };

constexpr MmaTileSize size_of(WgmmaTile tile) {
  constexpr MmaTileSize sizes[] = {{128, 128, 64}, {256, 128, 64}, {128, 256, 64}};
  return sizes[static_cast<int>(tile)];
}

// Part of a row, whole rows of an image, or whole images.
struct PixelBox {
  int w, h, n;
};

// That as many pixels of images of h x w are, where is_box().
constexpr PixelBox pixel_box(int pixels, int h, int w) {
  const int box_w = std::min(pixels, w), box_h = std::min(pixels / box_w, h);
  return {box_w, box_h, pixels / (box_w * box_h)};
}

// Whether images of h x w, one after the other, can be cut into boxes of as many pixels.
constexpr bool is_box(int pixels, int h, int w) {
  const PixelBox box = pixel_box(pixels, h, w);
  return box.w * box.h * box.n == pixels && w % box.w == 0 && h % box.h == 0;
}

struct WgmmaChoicePolicy {
  // Products of wgmma in the time of 5 products of mma.sync: Luo et al. 2024, arXiv 2402.13499, found 63 %.
  static constexpr int products = 8;
};

constexpr int time_of(WgmmaTile, int products) { return products * 5 / WgmmaChoicePolicy::products; }

using WgmmaChoice = TileChoice<WgmmaTile>;

// For p.rows pixels of images of h x w.
constexpr WgmmaTile choose_wgmma_tile(const GpuProperties& gpu, const MmaProduct& p, int h, int w) {
  WgmmaTile best = WgmmaTile::square;
  for (const WgmmaTile tile : {WgmmaTile::tall, WgmmaTile::wide})
    if (is_box(size_of(tile).rows, h, w) &&
        time_of(gpu, p, WgmmaChoice{tile, 1}) < time_of(gpu, p, WgmmaChoice{best, 1}))
      best = tile;
  return best;
}

inline WgmmaChoice choose_wgmma_weight(const GpuProperties& gpu, const Conv2dGeometry& g) {
  return choose_weight_tile(gpu, g, {WgmmaTile::square, WgmmaTile::tall, WgmmaTile::wide});
}

}  // namespace ddpm::kernels
