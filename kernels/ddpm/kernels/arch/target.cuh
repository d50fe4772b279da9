// SPDX-License-Identifier: MIT
// The one switch between native CUDA (nvcc) and the host (DDPM_SIMT_HOST, for tests): built-ins, shared
// memory and call sites under the same names in both.
#pragma once

#include <cstddef>
#include <type_traits>

#if defined(DDPM_SIMT_HOST)
#include <ddpm/kernels/arch/host_builtins.hpp>
#elif !defined(__CUDACC__)
#error "kernels need nvcc or clang in CUDA mode"
#endif

namespace ddpm {

inline constexpr int warp_size = 32;
inline constexpr unsigned full_warp = 0xffffffffu;

#if defined(DDPM_SIMT_HOST)

// Where an operation was called, for the executor's reports.
using CallSite = simt::Site;

// The block's shared memory; launch_kernel<Shared> gives the block as much.
template <class Shared>
Shared& shared_memory(CallSite at = CallSite::current()) {
  static_assert(std::is_trivially_copyable_v<Shared>);
  return *static_cast<Shared*>(simt::shared_block(sizeof(Shared), alignof(Shared), at));
}

#else

// Carries nothing natively, so that one signature serves both targets.
struct CallSite {
  __device__ static constexpr CallSite current() { return {}; }
};

template <class Shared>
__device__ __forceinline__ Shared& shared_memory(CallSite = CallSite::current()) {
  static_assert(std::is_trivially_copyable_v<Shared>);
  static_assert(alignof(Shared) <= 1024);
  // Two arrays because a 1024-byte alignment, which the 128-byte swizzle needs, costs every other kernel
  // space.
  if constexpr (alignof(Shared) > 16) {
    extern __shared__ __align__(1024) unsigned char ddpm_shared_for_swizzle[];
    return *reinterpret_cast<Shared*>(ddpm_shared_for_swizzle);
  } else {
    extern __shared__ __align__(16) unsigned char ddpm_shared[];
    return *reinterpret_cast<Shared*>(ddpm_shared);
  }
}

namespace arch {
__device__ __forceinline__ unsigned shared_address_of(const void* address) {
  return static_cast<unsigned>(__cvta_generic_to_shared(address));
}
}  // namespace arch

#endif

}  // namespace ddpm
