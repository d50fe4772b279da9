// SPDX-License-Identifier: MIT
// Any bytes as a file of torch.save: tensors that can be read, or an IoError.
#include <ddpm/io/torch_bin.hpp>

#include "fuzz_support.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) try {
  const fuzz::MemoryFile file(fuzz::text(data, size));
  fuzz::read_all(ddpm::io::TorchBin(file.path()));
  return 0;
} catch (const ddpm::IoError& error) {
  fuzz::require_sentence(error.what());
  return 0;
}
