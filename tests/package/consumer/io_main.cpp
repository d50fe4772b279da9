// SPDX-License-Identifier: MIT
// A user's program that needs files, and so the libraries behind ddpm::io.
#include <ddpm/ddpm.hpp>
#include <ddpm/io.hpp>

#include <png.h>
#include <zlib.h>

#include <nlohmann/json.hpp>

int main() {
  const bool linked = zlibVersion() != nullptr && png_access_version_number() != 0;
  return linked && nlohmann::json::parse("[1]").size() == 1 ? 0 : 1;
}
