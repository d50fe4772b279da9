// SPDX-License-Identifier: MIT
// One product by TMA and wgmma with one fault each, which the executor must find.
#pragma once

#include <ddpm/core/dtype.hpp>

namespace ddpm::simt::kernels {

enum class HopperFault {
  none,
  too_many_bytes_expected,
  too_few_arrivals,
  too_many_arrivals,
  not_initialised,
  no_barrier_after_init,
  no_wait_for_tile,
  tile_misaligned,
  operands_differ,
  overwritten_before_wait,
  no_commit,
  no_wait_for_product,
};

struct HopperFaultParams {
  const bf16* tile;  // [64][64]
  float* out;        // [64][64]
};
void run_hopper_fault(HopperFault fault, const HopperFaultParams& params);

}  // namespace ddpm::simt::kernels
