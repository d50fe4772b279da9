// SPDX-License-Identifier: MIT
// Counters of one launch: what decides the speed of a kernel and can be known without a GPU.
#pragma once

#include <cstdint>

namespace ddpm::simt {

inline constexpr int sector_bytes = 32;

// A request is one memory instruction of a warp.
struct GlobalTraffic {
  std::int64_t requests = 0;
  std::int64_t sectors = 0;  // 32-byte sectors that the requests touch
  std::int64_t bytes = 0;    // that the lanes ask for
  // Sectors that differ within a block, added up over blocks: the traffic with L2 if L1 keeps what a block
  // has touched.
  std::int64_t sectors_of_blocks = 0;

  double sectors_per_request() const {
    return requests == 0 ? 0 : static_cast<double>(sectors) / static_cast<double>(requests);
  }
  void operator+=(const GlobalTraffic& other) {
    requests += other.requests;
    sectors += other.sectors;
    bytes += other.bytes;
    sectors_of_blocks += other.sectors_of_blocks;
  }
};

// The 32 banks of shared memory serve one 4-byte word each at a time. Accesses of 8 and 16 bytes are served
// by half and quarter warps.
struct SharedTraffic {
  std::int64_t requests = 0;
  std::int64_t wavefronts = 0;      // turns that the banks take
  std::int64_t bank_conflicts = 0;  // turns beyond those of a conflict-free request
  std::int64_t bytes = 0;

  void operator+=(const SharedTraffic& other) {
    requests += other.requests;
    wavefronts += other.wavefronts;
    bank_conflicts += other.bank_conflicts;
    bytes += other.bytes;
  }
};

struct Counters {
  // False where the kernel was compiled without instrumentation: then only Pack, __ldg, cp.async, ldmatrix,
  // TMA and atomics are in the traffic.
  bool has_scalar_accesses = false;
  GlobalTraffic global_loads;
  GlobalTraffic global_stores;
  GlobalTraffic global_atomics;
  SharedTraffic shared_loads;
  SharedTraffic shared_stores;
  SharedTraffic shared_atomics;
  std::int64_t matrix_instructions = 0;  // mma by a warp, wgmma by a warpgroup
  std::int64_t block_barriers = 0;       // __syncthreads, once per block
  std::int64_t warp_barriers = 0;        // __syncwarp, once per warp
  std::int64_t warp_exchanges = 0;       // shuffles, votes and ldmatrix, once per warp
  std::int64_t bulk_copies = 0;          // TMA

  // To be compared with the least bytes that the operation has to move.
  std::int64_t global_bytes() const {
    return sector_bytes * (global_loads.sectors_of_blocks + global_stores.sectors_of_blocks +
                           global_atomics.sectors_of_blocks);
  }

  void operator+=(const Counters& other) {
    has_scalar_accesses |= other.has_scalar_accesses;
    global_loads += other.global_loads;
    global_stores += other.global_stores;
    global_atomics += other.global_atomics;
    shared_loads += other.shared_loads;
    shared_stores += other.shared_stores;
    shared_atomics += other.shared_atomics;
    matrix_instructions += other.matrix_instructions;
    block_barriers += other.block_barriers;
    warp_barriers += other.warp_barriers;
    warp_exchanges += other.warp_exchanges;
    bulk_copies += other.bulk_copies;
  }
};

}  // namespace ddpm::simt
