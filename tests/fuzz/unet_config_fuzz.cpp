// SPDX-License-Identifier: MIT
// Any bytes as the config.json of a U-Net: a configuration that is written and read back the same, or an
// error.
#include <ddpm/io/diffusers_config.hpp>

#include "fuzz_support.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) try {
  const ddpm::UNetConfig config = ddpm::io::parse_unet_config(fuzz::text(data, size));
  fuzz::require(ddpm::io::parse_unet_config(ddpm::io::unet_config_json(config)) == config);
  return 0;
} catch (const ddpm::Error& error) {
  fuzz::require_sentence(error.what());
  return 0;
}
