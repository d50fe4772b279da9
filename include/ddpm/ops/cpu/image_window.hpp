// SPDX-License-Identifier: MIT
// Copies windows of channels-last images, with their borders of zeros, into scratch where a product reads
// them without tests. The copy is 1/(2 * taps * outputs) of the arithmetic and stays in the cache.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <ddpm/ops/conv2d.hpp>
#include <ddpm/ops/cpu/isa.hpp>
#include <ddpm/ops/cpu/tile_product.hpp>

namespace ddpm::detail::cpu {

// Which channels a copy takes, and how many elements a pixel has in the copy (the rest is zero).
struct Channels {
  int first, count, depth;
};

// Where copied pixels go.
struct PixelPlaces {
  float* data;
  std::ptrdiff_t stride;
};

// One tensor, or two joined along the channels, each pixel repeated `upsample` times per axis.
struct Images {
  const float* x;   // [N, H, W, C]
  const float* x2;  // [N, H, W, C2], or null
  int h, w, c, c2;
  int upsample;

  int channels() const { return c + c2; }

  // `pixels` small pixels, from number `pixel` of all images.
  void copy_pixels(std::int64_t pixel, int pixels, const Channels& channels, const PixelPlaces& to) const {
    if (c2 == 0 && channels.count == c && channels.depth == c && to.stride == c) {
      std::memcpy(to.data, x + pixel * c,
                  sizeof(float) * static_cast<std::size_t>(pixels) * static_cast<unsigned>(c));
      return;
    }
    const int from_x = std::clamp(c - channels.first, 0, channels.count), from_x2 = channels.count - from_x;
    if (from_x > 0)
      run_leaf<MatrixLeaf<false>>(
          MatrixLeaf<false>{x + pixel * c + channels.first, c, to.data, to.stride, pixels, from_x});
    if (from_x2 > 0)
      run_leaf<MatrixLeaf<false>>(MatrixLeaf<false>{x2 + pixel * c2 + (channels.first + from_x - c), c2,
                                                    to.data + from_x, to.stride, pixels, from_x2});
    for (int i = 0; i < pixels && channels.count < channels.depth; ++i)
      std::fill(to.data + i * to.stride + channels.count, to.data + i * to.stride + channels.depth, 0.0f);
  }
};

// Rows and columns of the enlarged image n; they may reach over its borders.
struct Window {
  int n, top, left, rows, columns;
};

inline void fill_zero(float* to, std::int64_t count) { std::fill_n(to, count, 0.0f); }

// to = [rows, columns, depth]
inline void copy_window(const Images& images, const Window& window, const Channels& channels, float* to) {
  const int u = images.upsample;
  const std::int64_t line_size = std::int64_t{window.columns} * channels.depth;
  const int top = std::clamp(-window.top, 0, window.rows);
  const int bottom = std::clamp(images.h * u - window.top, top, window.rows);
  fill_zero(to, top * line_size);
  fill_zero(to + bottom * line_size, (window.rows - bottom) * line_size);
  const int begin = std::clamp(-window.left, 0, window.columns);
  const int end = std::clamp(images.w * u - window.left, begin, window.columns);
  const bool whole_lines = u == 1 && window.left == 0 && window.columns == images.w;
  for (int row = top; row < bottom; ++row) {
    const std::int64_t first = (std::int64_t{window.n} * images.h + (window.top + row) / u) * images.w;
    float* line = to + row * line_size;
    if (whole_lines)
      return images.copy_pixels(first, (bottom - top) * images.w, channels, {line, channels.depth});
    fill_zero(line, std::int64_t{begin} * channels.depth);
    fill_zero(line + std::int64_t{end} * channels.depth, std::int64_t{window.columns - end} * channels.depth);
    for (int column = begin; column < std::min(begin + u, end); ++column)  // those that repeat no other
      images.copy_pixels(first + (window.left + column) / u, ceil_div(end - column, u), channels,
                         {line + std::int64_t{column} * channels.depth, std::ptrdiff_t{u} * channels.depth});
  }
}

}  // namespace ddpm::detail::cpu
