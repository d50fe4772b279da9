// SPDX-License-Identifier: MIT
// Pixels: what the decoders of images return.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/file.hpp>

namespace ddpm::io::detail {

struct Pixels {
  std::vector<std::uint8_t> data;  // [height, width, channels]
  int height = 0, width = 0, channels = 0;

  std::size_t size() const {
    return static_cast<std::size_t>(height) * static_cast<std::size_t>(width) *
           static_cast<std::size_t>(channels);
  }
};

// Refuses an image that claims more pixels than its file can hold, before memory is taken for them.
inline void check_size(const Pixels& image, std::int64_t most_in_file, const std::string& path) {
  const std::int64_t most = std::min(std::int64_t{1} << 28, most_in_file);
  if (std::int64_t{image.height} * image.width > most)
    fail(path, message("an image of ", image.width, "x", image.height),
         message("at most ", most, " pixels in it"));
}

}  // namespace ddpm::io::detail
