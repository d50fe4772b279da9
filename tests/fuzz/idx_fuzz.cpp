// SPDX-License-Identifier: MIT
// Any bytes as an IDX file, plain or compressed: as many pixels or labels as it states, or an IoError.
#include <ddpm/io/idx.hpp>

#include "fuzz_support.hpp"

namespace {

template <class Read>
void attempt(Read read) try {
  read();
} catch (const ddpm::IoError& error) {
  fuzz::require_sentence(error.what());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::MemoryFile file(fuzz::text(data, size));
  attempt([&] {
    const ddpm::ImageSet images = ddpm::io::read_idx_images(file.path());
    fuzz::require(static_cast<std::int64_t>(images.pixels.size()) == images.count * images.image_size());
  });
  attempt([&] { ddpm::io::read_idx_labels(file.path()); });
  return 0;
}
