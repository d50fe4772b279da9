// SPDX-License-Identifier: MIT
// ImageSet: images of bytes in host memory, as the readers of io/ return them and the loader of train/ takes
// them.
#pragma once

#include <cstdint>
#include <vector>

#include <ddpm/core/shape.hpp>

namespace ddpm {

struct ImageSet {
  std::vector<std::uint8_t> pixels;  // [count, height, width, channels]
  std::vector<std::int32_t> labels;  // [count], or empty
  std::int64_t count = 0;
  int height = 0, width = 0, channels = 0;

  std::int64_t image_size() const { return std::int64_t{height} * width * channels; }
  Shape shape(std::int64_t images) const { return {images, height, width, channels}; }
};

}  // namespace ddpm
