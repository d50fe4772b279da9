// SPDX-License-Identifier: MIT
// cp.async: copies from global to shared memory that run beside the thread, in groups that it waits for.
#pragma once

#include <ddpm/kernels/arch/target.cuh>

namespace ddpm::arch {

// Copies `source_bytes` and fills the rest of Bytes with zeros; with 0 bytes `from` is not read. Both
// addresses are aligned to Bytes. 16-byte copies bypass L1.
template <int Bytes>
__device__ __forceinline__ void cp_async(void* to, const void* from, int source_bytes = Bytes,
                                         CallSite at = CallSite::current()) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "cp.async copies 4, 8 or 16 bytes");
#if defined(DDPM_SIMT_HOST)
  simt::copy_async({to, from, Bytes, source_bytes}, at);
#else
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address_of(to)), "l"(from),
                 "r"(source_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address_of(to)), "l"(from),
                 "n"(Bytes), "r"(source_bytes)
                 : "memory");
  }
#endif
}

// Makes one group of the copies issued since the last commit.
__device__ __forceinline__ void cp_async_commit() {
#if defined(DDPM_SIMT_HOST)
  simt::copy_async_commit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most InFlight of this thread's newest groups are unfinished. Other threads see the bytes
// after a barrier that follows.
template <int InFlight>
__device__ __forceinline__ void cp_async_wait() {
#if defined(DDPM_SIMT_HOST)
  simt::copy_async_wait(InFlight);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(InFlight) : "memory");
#endif
}

}  // namespace ddpm::arch
