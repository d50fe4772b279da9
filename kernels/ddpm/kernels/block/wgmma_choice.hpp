// SPDX-License-Identifier: MIT
// Which tile of wgmma a convolution is computed with, by the counting of mma_choice.hpp.
#pragma once

#include <ddpm/kernels/block/mma_choice.hpp>

namespace ddpm::kernels {

// `narrow` is of the passes to pixels alone, for few channels. `taps` is of a weight's gradient alone: 64 channels under
// three taps, one above the other.
enum class WgmmaTile { square, tall, wide, narrow, taps };

constexpr MmaTileSize size_of(WgmmaTile tile) {
  constexpr MmaTileSize sizes[] = {
      {128, 128, 64}, {256, 128, 64}, {128, 256, 64}, {256, 64, 64}, {128, 192, 128}};
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

// What is copied of an image, or of whole images, for the pixels of a tile: as many rows more as serve `taps` taps, one
// above the other, of which two read the same row where `doubled` is 1. That is all of them where lines of wgmma, see
// SliceLayout, stay whole and as many as there is space for, else one.
struct PixelStrip {
  PixelBox box;  // of the tile
  int taps, doubled;

  DDPM_HOST_DEVICE constexpr int rows() const { return box.h + ((taps - 1 + doubled) >> doubled); }
  DDPM_HOST_DEVICE constexpr int lines() const { return box.w * rows() * box.n; }
};

constexpr int most_strip_lines(WgmmaTile tile) { return size_of(tile).rows == 256 ? 320 : 192; }

// For the rows of a tile, or the depth of a slice of WgmmaTile::taps, which are as many.
constexpr PixelStrip pixel_strip(WgmmaTile tile, int kernel, int h, int w, int doubled = 0) {
  const PixelBox box = pixel_box(size_of(tile).rows, h, w);
  const PixelStrip all{box, kernel, doubled};
  const bool is_whole = box.w % 8 == 0 && box.w * box.h % 64 == 0;
  return is_whole && all.lines() <= most_strip_lines(tile) ? all : PixelStrip{box, 1, doubled};
}

struct WgmmaChoicePolicy {
  // Products of wgmma in the time of 5 products of mma.sync: Luo et al. 2024, arXiv 2402.13499, found 63 %.
  static constexpr int products = 8;
};

constexpr int time_of(WgmmaTile, int products) { return products * 5 / WgmmaChoicePolicy::products; }

// The columns of `taps` are copied as one strip.
constexpr int copied_elements(WgmmaTile tile) {
  const auto [rows, columns, depth] = size_of(tile);
  return rows + (tile == WgmmaTile::taps ? most_strip_lines(tile) * 64 / depth : columns);
}

using WgmmaChoice = TileChoice<WgmmaTile>;

// The tile for pixels that others must leave no rest of.
constexpr WgmmaTile smallest_wgmma_tile(std::int64_t columns) {
  return columns <= size_of(WgmmaTile::narrow).columns ? WgmmaTile::narrow : WgmmaTile::square;
}

// For p.rows pixels of images of h x w.
constexpr WgmmaTile choose_wgmma_tile(const GpuProperties& gpu, const MmaProduct& p, int h, int w) {
  WgmmaTile best = smallest_wgmma_tile(p.columns);
  if (best == WgmmaTile::narrow) return best;
  for (const WgmmaTile tile : {WgmmaTile::tall, WgmmaTile::wide})
    if (is_box(size_of(tile).rows, h, w) &&
        time_of(gpu, p, WgmmaChoice{tile, 1}) < time_of(gpu, p, WgmmaChoice{best, 1}))
      best = tile;
  return best;
}

// Of the pixels of y that are as many rows and columns from an even one; without upsampling, of all. Its taps are the
// pixels of x that the taps of an upsampled convolution of 3 x 3 read: two along each axis.
constexpr Conv2dGeometry class_of(Conv2dGeometry g) {
  if (g.upsample == 1) return g;
  g.kernel = 2;
  g.p /= 2;
  g.q /= 2;
  return g;
}
DDPM_HOST_DEVICE constexpr int classes_of(const Conv2dGeometry& g) { return g.upsample * g.upsample; }

// Whether WgmmaTile::taps computes the weight's gradient.
constexpr bool shares_taps(const Conv2dGeometry& g) {
  return g.kernel == 3 && is_box(size_of(WgmmaTile::taps).depth, g.p, g.q) &&
         pixel_strip(WgmmaTile::taps, g.kernel, g.p, g.q).taps == g.kernel;
}

// Of all classes one after the other.
inline MmaProduct wgmma_weight_product(const Conv2dGeometry& g) {
  MmaProduct p = weight_product(class_of(g));
  p.depth *= classes_of(g);
  return p;
}

// The parts of all classes, each of which has as many.
inline WgmmaChoice choose_wgmma_weight(const GpuProperties& gpu, const Conv2dGeometry& g) {
  const MmaProduct p = wgmma_weight_product(g);
  if (shares_taps(class_of(g)))
    return choose_weight_tile(gpu, p, {WgmmaTile::taps, WgmmaTile::square, WgmmaTile::tall, WgmmaTile::wide});
  WgmmaChoice choice = choose_weight_tile(gpu, p, {WgmmaTile::square, WgmmaTile::tall, WgmmaTile::wide});
  choice.parts = std::max(choice.parts / classes_of(g), 1) * classes_of(g);
  return choice;
}

}  // namespace ddpm::kernels
