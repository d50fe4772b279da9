// SPDX-License-Identifier: MIT
// The examples where there is no nvcc.
#include "target.hpp"

int example::run_on_cuda(const Options&) {
  throw ddpm::ConfigError("found --device cuda, expected cpu, as this program was built without CUDA");
}
