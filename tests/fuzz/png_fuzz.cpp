// SPDX-License-Identifier: MIT
// Any bytes as a PNG, as they are and with the checksums of their chunks put right, which no fuzzer finds by
// chance: an image of the size it states, or an IoError.
#include <zlib.h>

#include <string>

#include <ddpm/io/detail/png.hpp>

#include "fuzz_support.hpp"

namespace {

// A chunk: 4 bytes of length, 4 of type, the data, 4 of the CRC-32 of type and data.
std::string with_checksums(std::string png) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(png[i]); };
  for (std::size_t chunk = 8; chunk + 12 <= png.size();) {
    const std::size_t length = std::size_t{byte(chunk)} << 24 | std::size_t{byte(chunk + 1)} << 16 |
                               std::size_t{byte(chunk + 2)} << 8 | byte(chunk + 3);
    if (length > png.size() - chunk - 12) break;
    const auto crc = ::crc32_z(0, reinterpret_cast<const Bytef*>(&png[chunk + 4]), 4 + length);
    for (std::size_t i = 0; i < 4; ++i) png[chunk + 8 + length + i] = static_cast<char>(crc >> (24 - 8 * i));
    chunk += 12 + length;
  }
  return png;
}

void decode(const std::string& bytes) try {
  const auto image = ddpm::io::detail::decode_png(bytes, "fuzz.png");
  fuzz::require(image.size() > 0 && image.data.size() == image.size());
  fuzz::require(image.channels == 1 || image.channels == 3);
} catch (const ddpm::IoError& error) {
  fuzz::require_sentence(error.what());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(fuzz::text(data, size));
  decode(bytes);
  decode(with_checksums(bytes));
  return 0;
}
