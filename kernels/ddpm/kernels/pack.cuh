// SPDX-License-Identifier: MIT
// Pack<T, N>: N neighbouring elements that move between memory and registers in one access of up to 128 bits.
#pragma once

#include <cstdint>

#include <ddpm/kernels/arch/vector_access.cuh>

namespace ddpm::kernels {

inline constexpr int widest_access = 16;  // bytes

// The most elements of T in one access.
template <class T>
inline constexpr int pack_width = widest_access / static_cast<int>(sizeof(T));

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  static constexpr int bytes = static_cast<int>(sizeof(T)) * N;
  static_assert(bytes == 2 || bytes == 4 || bytes == 8 || bytes == 16,
                "one access moves 2, 4, 8 or 16 bytes");

  T value[N];

  __device__ __forceinline__ T& operator[](int i) { return value[i]; }
  __device__ __forceinline__ const T& operator[](int i) const { return value[i]; }

  // `from` is aligned to the size of the pack.
  template <CacheHint Hint = CacheHint::keep>
  __device__ __forceinline__ static Pack load(const T* from, CallSite at = CallSite::current()) {
    Pack pack;
    arch::load_vector<bytes, Hint>(pack.value, from, at);
    return pack;
  }

  template <CacheHint Hint = CacheHint::keep>
  __device__ __forceinline__ void store(T* to, CallSite at = CallSite::current()) const {
    arch::store_vector<bytes, Hint>(to, value, at);
  }
};

// Whether packs of N elements may start at every N-th element from `pointer`; the host asks before it chooses
// a kernel. A null pointer, for an absent operand, is aligned.
template <int N, class T>
bool is_aligned(const T* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % (sizeof(T) * N) == 0;
}

}  // namespace ddpm::kernels
