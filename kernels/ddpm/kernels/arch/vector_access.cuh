// SPDX-License-Identifier: MIT
// Loads and stores of 2, 4, 8 or 16 bytes as one instruction, with a cache hint.
#pragma once

#include <ddpm/kernels/arch/target.cuh>

namespace ddpm {

enum class CacheHint {
  keep,       // will be read again
  read_only,  // constant for the whole launch: through the non-coherent path
  stream,     // touched once: first to leave the caches
};

namespace arch {

#if defined(DDPM_SIMT_HOST)

template <int Bytes, CacheHint Hint>
void load_vector(void* to, const void* from, CallSite at) {
  simt::load(to, from, Bytes, "vector load", at);
}

template <int Bytes, CacheHint Hint>
void store_vector(void* to, const void* from, CallSite at) {
  simt::store(to, from, Bytes, "vector store", at);
}

#else

template <int Bytes>
struct VectorOf;
template <>
struct VectorOf<2> {
  using type = unsigned short;
};
template <>
struct VectorOf<4> {
  using type = unsigned;
};
template <>
struct VectorOf<8> {
  using type = uint2;
};
template <>
struct VectorOf<16> {
  using type = uint4;
};

template <int Bytes, CacheHint Hint>
__device__ __forceinline__ void load_vector(void* to, const void* from, CallSite) {
  using Vector = typename VectorOf<Bytes>::type;
  const Vector* source = static_cast<const Vector*>(from);
  Vector value;
  if constexpr (Hint == CacheHint::read_only) {
    value = __ldg(source);
  } else if constexpr (Hint == CacheHint::stream) {
    value = __ldcs(source);
  } else {
    value = *source;
  }
  *static_cast<Vector*>(to) = value;
}

template <int Bytes, CacheHint Hint>
__device__ __forceinline__ void store_vector(void* to, const void* from, CallSite) {
  using Vector = typename VectorOf<Bytes>::type;
  const Vector value = *static_cast<const Vector*>(from);
  if constexpr (Hint == CacheHint::stream) {
    __stcs(static_cast<Vector*>(to), value);
  } else {
    *static_cast<Vector*>(to) = value;
  }
}

#endif

}  // namespace arch
}  // namespace ddpm
