// SPDX-License-Identifier: MIT
// Kernels with one fault each, which the executor must find.
#pragma once

namespace ddpm::simt::kernels {

enum class Fault {
  none,
  // Shared memory; each reverses the values of a block, or of several tiles in turn.
  no_barrier_before_read,
  no_barrier_before_overwrite,
  no_warp_barrier,
  no_write,
  count_without_atomic,
  shared_index_beyond_end,
  // Barriers and warp operations.
  divergent_barrier,
  barrier_after_return,
  return_beside_barrier,
  half_warp_at_shuffle,
  lane_not_in_mask,
  masks_differ,
  returned_lane_in_mask,
  lane_that_does_not_exist,
  shuffle_from_outside_mask,
  // cp.async.
  copy_without_wait,
  copy_waited_too_weakly,
  copy_without_commit,
  copy_without_barrier,
  copy_overwritten_in_flight,
  copy_misaligned,
  copy_source_too_large,
  // Global memory.
  blocks_write_same,
  block_reads_what_other_writes,
  atomic_beside_plain,
  vector_misaligned,
  vector_beyond_end,
  scalar_beyond_end,
  scalar_misaligned,
  host_pointer,
  ldmatrix_misaligned,
  ldmatrix_of_global,
  // Launches.
  too_many_threads,
  too_much_shared,
  other_shared_size,
};

// Runs the fault's kernel on `out` and `in`, of 256 floats of CudaSim each; `host` is memory of the host.
struct FaultParams {
  const float* in;
  float* out;
  float* host;
};
void run_fault(Fault fault, const FaultParams& params);

}  // namespace ddpm::simt::kernels
