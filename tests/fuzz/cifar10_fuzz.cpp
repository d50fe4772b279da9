// SPDX-License-Identifier: MIT
// Any bytes as a file of CIFAR-10, plain or compressed: images with labels from 0 to 9, or an IoError.
#include <ddpm/io/cifar10.hpp>

#include "fuzz_support.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) try {
  const fuzz::MemoryFile file(fuzz::text(data, size));
  const ddpm::ImageSet images = ddpm::io::read_cifar10(file.path());
  fuzz::require(static_cast<std::int64_t>(images.labels.size()) == images.count && images.count > 0);
  fuzz::require(static_cast<std::int64_t>(images.pixels.size()) == images.count * images.image_size());
  for (const std::uint8_t label : images.labels) fuzz::require(label < 10);
  return 0;
} catch (const ddpm::IoError& error) {
  fuzz::require_sentence(error.what());
  return 0;
}
