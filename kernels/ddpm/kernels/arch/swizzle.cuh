// SPDX-License-Identifier: MIT
// The 128-byte swizzle that TMA writes and wgmma reads: bits 4 to 6 of an address are xored with its bits 7
// to 9.
#pragma once

#include <cstdint>

#include <ddpm/core/dtype.hpp>

namespace ddpm::arch {

// `offset` is a distance from a 1024-byte aligned address.
DDPM_HOST_DEVICE constexpr std::uint32_t swizzle_128(std::uint32_t offset) {
  return offset ^ (offset >> 3 & 0x70u);
}

}  // namespace ddpm::arch
