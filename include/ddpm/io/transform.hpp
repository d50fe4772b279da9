// SPDX-License-Identifier: MIT
// What is done to a picture before a model sees it: cropped, gray or RGB, resized.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/image.hpp>

namespace ddpm::io {

// The largest square in the middle; an odd pixel that is left over is cut at the right or at the bottom.
inline Image center_cropped(const Image& image) {
  const int side = std::min(image.height, image.width);
  const std::ptrdiff_t channels = image.channels, line = side * channels;
  Image out{{}, side, side, image.channels};
  out.data.reserve(out.size());
  for (int y = 0; y < side; ++y) {
    const std::ptrdiff_t row = (image.height - side) / 2 + y, column = (image.width - side) / 2;
    const auto from = image.data.begin() + (row * image.width + column) * channels;
    out.data.insert(out.data.end(), from, from + line);
  }
  return out;
}

// Gray as (19595 R + 38470 G + 7471 B) / 2^16, the luma of ITU-R BT.601 in the rounding of PIL; or gray
// repeated.
inline Image with_channels(const Image& image, int channels) {
  check((image.channels == 1 || image.channels == 3) && (channels == 1 || channels == 3),
        "with_channels: ", channels, " channels of an image of ", image.channels,
        " asked for, expected 1 or 3 of 1 or 3");
  if (image.channels == channels) return image;
  Image out{{}, image.height, image.width, channels};
  out.data.resize(out.size());
  const std::size_t pixels = out.size() / static_cast<std::size_t>(channels);
  for (std::size_t i = 0; i < pixels; ++i)
    if (channels == 3) {
      std::fill_n(&out.data[3 * i], 3, image.data[i]);
    } else {
      const std::uint8_t* rgb = &image.data[3 * i];
      out.data[i] =
          static_cast<std::uint8_t>((19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + (1 << 15)) >> 16);
    }
  return out;
}

namespace detail {

// One axis of a resize: output pixel o is the sum of weight * input over inputs first, first + 1, ...
class TriangleFilter {
 public:
  static constexpr int bits = 22;  // of a weight behind the point: sums of 8-bit pixels stay below 2^31

  struct Span {
    int first;
    std::vector<int> weights;
  };

  TriangleFilter(int in, int out) {
    const double scale = static_cast<double>(in) / out, radius = std::max(scale, 1.0);
    for (int o = 0; o < out; ++o) {
      const double center = (o + 0.5) * scale;
      const int first = std::max(0, static_cast<int>(std::lround(center - radius)));
      const int last = std::min(in, static_cast<int>(std::lround(center + radius)));
      std::vector<double> weights;
      double sum = 0;
      for (int i = first; i < last; ++i) {
        weights.push_back(std::max(0.0, 1 - std::abs((i - center + 0.5) * (1 / radius))));
        sum += weights.back();
      }
      spans_.push_back({first, {}});
      for (const double weight : weights)
        spans_.back().weights.push_back(static_cast<int>(std::lround(weight / sum * (1 << bits))));
    }
  }

  const std::vector<Span>& spans() const { return spans_; }

  static std::uint8_t to_byte(int sum) {
    return static_cast<std::uint8_t>(std::min(255, (sum + (1 << (bits - 1))) >> bits));
  }

 private:
  std::vector<Span> spans_;
};

inline Image resized_across(const Image& image, int width) {
  const TriangleFilter filter(image.width, width);
  const auto channels = static_cast<std::size_t>(image.channels);
  Image out{{}, image.height, width, image.channels};
  out.data.reserve(out.size());
  for (int y = 0; y < image.height; ++y) {
    const std::uint8_t* row =
        &image.data[static_cast<std::size_t>(y) * static_cast<std::size_t>(image.width) * channels];
    for (const auto& [first, weights] : filter.spans())
      for (std::size_t c = 0; c < channels; ++c) {
        const std::uint8_t* from = row + static_cast<std::size_t>(first) * channels + c;
        int sum = 0;
        for (const int weight : weights) {
          sum += weight * *from;
          from += channels;
        }
        out.data.push_back(TriangleFilter::to_byte(sum));
      }
  }
  return out;
}

inline Image resized_down(const Image& image, int height) {
  const TriangleFilter filter(image.height, height);
  const std::size_t line = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.channels);
  Image out{{}, height, image.width, image.channels};
  out.data.reserve(out.size());
  std::vector<int> sums(line);
  for (const auto& [first, weights] : filter.spans()) {
    std::ranges::fill(sums, 0);
    const std::uint8_t* row = &image.data[static_cast<std::size_t>(first) * line];
    for (const int weight : weights) {
      for (std::size_t i = 0; i < line; ++i) sums[i] += weight * row[i];
      row += line;
    }
    for (const int sum : sums) out.data.push_back(TriangleFilter::to_byte(sum));
  }
  return out;
}

}  // namespace detail

// With a triangle filter as wide as an output pixel where the image shrinks, so that nothing aliases; across
// first, rounded to bytes after each axis. Of a square these are the bytes of PIL's Image.resize with
// BILINEAR, and so of torchvision.transforms.Resize on a PIL image; of another shape PIL may begin with the
// other axis and round otherwise.
inline Image resized(const Image& image, int height, int width) {
  check(height >= 1 && width >= 1 && height <= detail::largest_side && width <= detail::largest_side,
        "resized: an image of ", height, "x", width, " asked for, expected sides from 1 to ",
        detail::largest_side);
  return detail::resized_down(detail::resized_across(image, width), height);
}

}  // namespace ddpm::io
