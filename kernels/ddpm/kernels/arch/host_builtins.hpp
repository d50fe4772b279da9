// SPDX-License-Identifier: MIT
// CUDA's keywords, warp operations, atomics and fast mathematics for host compilers. Included by target.cuh
// only.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include <ddpm/kernels/arch/executor_interface.hpp>

#define __global__
#define __device__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
// On the host this would silently be a variable of each thread.
#define __shared__ shared_variables_are_members_of_Shared_see_shared_memory

using std::max;
using std::min;

namespace ddpm::simt {

// What a lane brings to a shuffle and takes from it; no source keeps the lane's own value.
template <class T>
struct ShuffleSlot {
  T value;
  int source;
};

inline constexpr int no_source = -1;

template <class T>
T shuffle(unsigned mask, T value, int source, const char* name, Site at) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA shuffles move 4 or 8 bytes");
  ShuffleSlot<T> slot{value, source};
  const auto combine = [](void* const* slots, unsigned lanes) {
    T result[32]{};
    for (int lane = 0; lane < 32; ++lane) {
      if ((lanes >> lane & 1u) == 0) continue;
      const auto& mine = *static_cast<ShuffleSlot<T>*>(slots[lane]);
      const int from = mine.source == no_source ? lane : mine.source;
      if ((lanes >> from & 1u) == 0)
        fail("a shuffle reads lane " + std::to_string(from) + ", which is not in the mask", {});
      result[lane] = static_cast<ShuffleSlot<T>*>(slots[from])->value;
    }
    for (int lane = 0; lane < 32; ++lane)
      if (lanes >> lane & 1u) static_cast<ShuffleSlot<T>*>(slots[lane])->value = result[lane];
  };
  warp_rendezvous(mask, {name, WarpOperation::exchange, combine}, &slot, at);
  return slot.value;
}

struct VoteSlot {
  bool predicate;
  unsigned ballot;
};

inline unsigned vote(unsigned mask, bool predicate, const char* name, Site at) {
  VoteSlot slot{predicate, 0};
  const auto combine = [](void* const* slots, unsigned lanes) {
    unsigned ballot = 0;
    for (int lane = 0; lane < 32; ++lane)
      if ((lanes >> lane & 1u) && static_cast<VoteSlot*>(slots[lane])->predicate) ballot |= 1u << lane;
    for (int lane = 0; lane < 32; ++lane)
      if (lanes >> lane & 1u) static_cast<VoteSlot*>(slots[lane])->ballot = ballot;
  };
  warp_rendezvous(mask, {name, WarpOperation::exchange, combine}, &slot, at);
  return slot.ballot;
}

inline int lane() { return thread_in_block() % 32; }

}  // namespace ddpm::simt

inline void __syncthreads(ddpm::simt::Site at = ddpm::simt::Site::current()) {
  ddpm::simt::block_barrier(at);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, ddpm::simt::Site at = ddpm::simt::Site::current()) {
  const auto nothing = [](void* const*, unsigned) {};
  ddpm::simt::warp_rendezvous(mask, {"__syncwarp", ddpm::simt::WarpOperation::memory_barrier, nothing},
                              nullptr, at);
}

// Lanes whose source lies outside of their segment of `width` lanes keep their own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              ddpm::simt::Site at = ddpm::simt::Site::current()) {
  const int segment = ddpm::simt::lane() / width * width;
  return ddpm::simt::shuffle(mask, value, segment + (source & (width - 1)), "__shfl_sync", at);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  ddpm::simt::Site at = ddpm::simt::Site::current()) {
  const int source = ddpm::simt::lane() ^ bits;
  const bool beyond = source >= (ddpm::simt::lane() / width + 1) * width;
  return ddpm::simt::shuffle(mask, value, beyond ? ddpm::simt::no_source : source, "__shfl_xor_sync", at);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32,
                   ddpm::simt::Site at = ddpm::simt::Site::current()) {
  const int lane = ddpm::simt::lane(), source = lane + static_cast<int>(distance);
  const bool beyond = lane % width + static_cast<int>(distance) >= width;
  return ddpm::simt::shuffle(mask, value, beyond ? ddpm::simt::no_source : source, "__shfl_down_sync", at);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32,
                 ddpm::simt::Site at = ddpm::simt::Site::current()) {
  const int lane = ddpm::simt::lane(), source = lane - static_cast<int>(distance);
  const bool beyond = lane % width < static_cast<int>(distance);
  return ddpm::simt::shuffle(mask, value, beyond ? ddpm::simt::no_source : source, "__shfl_up_sync", at);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              ddpm::simt::Site at = ddpm::simt::Site::current()) {
  return ddpm::simt::vote(mask, predicate != 0, "__ballot_sync", at);
}

inline int __any_sync(unsigned mask, int predicate, ddpm::simt::Site at = ddpm::simt::Site::current()) {
  return ddpm::simt::vote(mask, predicate != 0, "__any_sync", at) != 0;
}

inline int __all_sync(unsigned mask, int predicate, ddpm::simt::Site at = ddpm::simt::Site::current()) {
  return ddpm::simt::vote(mask, predicate != 0, "__all_sync", at) == mask;
}

template <class T>
T atomicAdd(T* to, std::type_identity_t<T> value, ddpm::simt::Site at = ddpm::simt::Site::current()) {
  return ddpm::simt::atomic_add(to, value, at);
}

template <class T>
T __ldg(const T* from, ddpm::simt::Site at = ddpm::simt::Site::current()) {
  T value;
  ddpm::simt::load(&value, from, sizeof(T), "__ldg", at);
  return value;
}

// The device's versions err by a few units in the last place more than these; tests leave room for that.
// glibc declares some of these names too, as C functions that throw nothing.
inline float __expf(float x) noexcept { return std::exp(x); }
inline float __logf(float x) noexcept { return std::log(x); }
inline float __sinf(float x) noexcept { return std::sin(x); }
inline float __cosf(float x) noexcept { return std::cos(x); }
inline void __sincosf(float x, float* sine, float* cosine) noexcept {
  *sine = std::sin(x);
  *cosine = std::cos(x);
}
inline float rsqrtf(float x) noexcept { return 1.0f / std::sqrt(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }

inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
