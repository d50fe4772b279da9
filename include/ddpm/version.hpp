// SPDX-License-Identifier: MIT
// The version of the library. Nowhere else is it written: CMake reads it from here.
#pragma once

#define DDPM_VERSION_MAJOR 0
#define DDPM_VERSION_MINOR 1
#define DDPM_VERSION_PATCH 0

namespace ddpm {

struct Version {
  int major, minor, patch;
};

inline constexpr Version version{DDPM_VERSION_MAJOR, DDPM_VERSION_MINOR, DDPM_VERSION_PATCH};

}  // namespace ddpm
