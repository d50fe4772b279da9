// SPDX-License-Identifier: MIT
// CodeAddress: the place in the source from which an access was made, in one word.
#pragma once

#include <cstdint>
#include <source_location>
#include <string>

namespace ddpm::simt {

// Either a source location, given by an operation, or a return address, given by the compiler's
// instrumentation and turned into a line only when a report needs it.
class CodeAddress {
 public:
  CodeAddress() = default;
  explicit CodeAddress(const void* return_address)
      : word_(reinterpret_cast<std::uintptr_t>(return_address)) {}
  explicit CodeAddress(std::source_location at);

  bool is_known() const { return word_ != 0; }
  std::uintptr_t word() const { return word_; }
  std::string text() const;  // file.cuh:123

 private:
  std::uintptr_t word_ = 0;
};

std::string text(std::source_location at);

// The name of the function at this address, as in the source.
std::string function_name(const void* address);

}  // namespace ddpm::simt
