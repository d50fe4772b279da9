// SPDX-License-Identifier: MIT
// Access: one memory access of one thread, as the executor's checks and counters see it.
#pragma once

#include <cstddef>

#include "code_address.hpp"

namespace ddpm::simt {

enum class AccessKind { read, write, atomic };

struct Access {
  const void* address;
  std::size_t bytes;
  AccessKind kind;
  const char* what;  // as reports name it: "read", "cp.async", ...
  CodeAddress from;

  std::string text() const { return std::string(what) + " of " + std::to_string(bytes) + " bytes"; }
};

}  // namespace ddpm::simt
