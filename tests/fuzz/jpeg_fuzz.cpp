// SPDX-License-Identifier: MIT
// Any bytes as a JPEG: an image of the size it states, or an IoError.
#include <ddpm/io/detail/jpeg.hpp>

#include "fuzz_support.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) try {
  const auto image = ddpm::io::detail::decode_jpeg(fuzz::text(data, size), "fuzz.jpg");
  fuzz::require(image.size() > 0 && image.data.size() == image.size());
  fuzz::require(image.channels == 1 || image.channels == 3);
  return 0;
} catch (const ddpm::IoError& error) {
  fuzz::require_sentence(error.what());
  return 0;
}
