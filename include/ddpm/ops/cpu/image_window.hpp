// SPDX-License-Identifier: MIT
// Copies windows of channels-last images, with their borders of zeros, into scratch where a product reads
// them without tests. The copy is 1/(2 * taps * outputs) of the arithmetic and stays in the cache.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <ddpm/ops/conv2d.hpp>
#include <ddpm/ops/cpu/isa.hpp>

namespace ddpm::detail::cpu {

// One tensor, or two joined along the channels, each pixel repeated `upsample` times per axis.
struct Images {
  const float* x;   // [N, H, W, C]
  const float* x2;  // [N, H, W, C2], or null
  int h, w, c, c2;
  int upsample;

  int channels() const { return c + c2; }

  // Channels [first, first + count) of a pixel, which is counted through all images.
  void copy_pixel(std::int64_t pixel, int first, int count, float* to) const {
    const int from_x = std::clamp(c - first, 0, count);
    if (from_x > 0) std::memcpy(to, x + pixel * c + first, sizeof(float) * static_cast<unsigned>(from_x));
    if (count > from_x)
      std::memcpy(to + from_x, x2 + pixel * c2 + (first + from_x - c),
                  sizeof(float) * static_cast<unsigned>(count - from_x));
  }
};

// Rows and columns of the enlarged image n; they may reach over its borders.
struct Window {
  int n, top, left, rows, columns;
};

inline void fill_zero(float* to, std::int64_t count) { std::fill_n(to, count, 0.0f); }

// Which channels a copy takes, and how many elements a pixel has in the copy (the rest is zero).
struct Channels {
  int first, count, depth;
};

// to = [rows, columns, depth]
inline void copy_window(const Images& images, const Window& window, const Channels& channels, float* to) {
  const int u = images.upsample, depth = channels.depth;
  const int begin = std::clamp(-window.left, 0, window.columns);
  const int end = std::clamp(images.w * u - window.left, begin, window.columns);
  const bool contiguous = u == 1 && images.c2 == 0 && channels.count == images.c && depth == images.c;
  for (int row = 0; row < window.rows; ++row, to += std::int64_t{window.columns} * depth) {
    const int y = window.top + row;
    if (y < 0 || y >= images.h * u) {
      fill_zero(to, std::int64_t{window.columns} * depth);
      continue;
    }
    fill_zero(to, std::int64_t{begin} * depth);
    fill_zero(to + std::int64_t{end} * depth, std::int64_t{window.columns - end} * depth);
    const std::int64_t line = (std::int64_t{window.n} * images.h + y / u) * images.w;
    if (contiguous) {
      std::memcpy(to + std::int64_t{begin} * depth, images.x + (line + window.left + begin) * depth,
                  sizeof(float) * static_cast<std::size_t>(end - begin) * static_cast<unsigned>(depth));
      continue;
    }
    for (int column = begin; column < end; ++column) {
      float* pixel = to + std::int64_t{column} * depth;
      images.copy_pixel(line + (window.left + column) / u, channels.first, channels.count, pixel);
      std::fill(pixel + channels.count, pixel + depth, 0.0f);
    }
  }
}

}  // namespace ddpm::detail::cpu
