// SPDX-License-Identifier: MIT
// mbarrier: a barrier in shared memory whose phase ends when all arrivals and all announced bytes have come.
#pragma once

#include <cstdint>

#include <ddpm/kernels/arch/target.cuh>

namespace ddpm::arch {

// By one thread; the others may use it after a __syncthreads.
__device__ __forceinline__ void mbarrier_init(std::uint64_t* barrier, unsigned arrivals,
                                              CallSite at = CallSite::current()) {
#if defined(DDPM_SIMT_HOST)
  simt::mbarrier_init(barrier, arrivals, at);
#else
  asm volatile(
      "mbarrier.init.shared.b64 [%0], %1;\n"
      "fence.mbarrier_init.release.cluster;" ::"r"(shared_address_of(barrier)),
      "r"(arrivals)
      : "memory");
#endif
}

__device__ __forceinline__ void mbarrier_arrive(std::uint64_t* barrier, CallSite at = CallSite::current()) {
#if defined(DDPM_SIMT_HOST)
  simt::mbarrier_arrive(barrier, at);
#else
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address_of(barrier)) : "memory");
#endif
}

// Announces `bytes` of asynchronous copies for this phase, then arrives.
__device__ __forceinline__ void mbarrier_arrive_expect_tx(std::uint64_t* barrier, unsigned bytes,
                                                          CallSite at = CallSite::current()) {
#if defined(DDPM_SIMT_HOST)
  simt::mbarrier_expect_bytes(barrier, bytes, at);
  simt::mbarrier_arrive(barrier, at);
#else
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address_of(barrier)),
               "r"(bytes)
               : "memory");
#endif
}

// Waits for the end of the phase with this parity; the first phase has parity 0. The loop around try_wait is
// part of it, so that the host sees a wait and not a spin.
__device__ __forceinline__ void mbarrier_wait_parity(std::uint64_t* barrier, unsigned parity,
                                                     CallSite at = CallSite::current()) {
#if defined(DDPM_SIMT_HOST)
  simt::mbarrier_wait(barrier, parity, at);
#else
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "retry:\n"
      "mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
      "@!done bra retry;\n"
      "}" ::"r"(shared_address_of(barrier)),
      "r"(parity)
      : "memory");
#endif
}

}  // namespace ddpm::arch
