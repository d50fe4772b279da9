// SPDX-License-Identifier: MIT
// Any bytes as a safetensors file, and as its header, whose length no fuzzer finds by chance: tensors that
// can be read, or an IoError.
#include <cstring>
#include <string>

#include <ddpm/io/safetensors.hpp>

#include "fuzz_support.hpp"

namespace {

void read(std::string_view bytes) try {
  const fuzz::MemoryFile file(bytes);
  fuzz::read_all(ddpm::io::SafeTensors(file.path()));
} catch (const ddpm::IoError& error) {
  fuzz::require_sentence(error.what());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes = fuzz::text(data, size);
  read(bytes);
  // A header up to the last brace, and behind it the data.
  const std::uint64_t length = bytes.rfind('}') + 1;
  std::string whole(8, '\0');
  std::memcpy(whole.data(), &length, 8);
  read(whole.append(bytes));
  return 0;
}
