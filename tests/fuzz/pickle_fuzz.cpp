// SPDX-License-Identifier: MIT
// Any bytes as the pickle in a file of torch.save whose checksums are right and that has two storages:
// tensors that can be read, or an IoError.
#include <ddpm/io/torch_bin.hpp>

#include "fuzz_support.hpp"
#include "io/torch_support.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) try {
  static const std::string six_floats(24, '\1'), three_longs(24, '\2');
  const fuzz::MemoryFile file(
      torch_support::torch_file(std::string(fuzz::text(data, size)), {six_floats, three_longs}));
  fuzz::read_all(ddpm::io::TorchBin(file.path()));
  return 0;
} catch (const ddpm::IoError& error) {
  fuzz::require_sentence(error.what());
  return 0;
}
