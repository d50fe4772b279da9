// SPDX-License-Identifier: MIT
// Quads: the four neighbouring elements of a sample that one call of Philox serves, and the grid in which
// each thread has one.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ddpm/core/rng.hpp>
#include <ddpm/kernels/launch.cuh>
#include <ddpm/kernels/pack.cuh>

namespace ddpm::kernels {

inline constexpr int quad = 4;

// How quads are moved: as one vector, which needs every quad aligned, or element by element.
enum class QuadAccess { vector, scalar };

// Fixed loops with a condition, so that the quad stays in registers. `count` is that of elements which exist,
// at most N; the others are left alone. A vector access needs all N and falls back where the data ends. N is 4,
// or more where neighbouring quads are moved as one.
template <QuadAccess A, CacheHint Hint = CacheHint::stream, class T, class Value, int N>
__device__ __forceinline__ void load_quad(const T* from, int count, Value (&to)[N]) {
  if (A == QuadAccess::vector && count == N) {
    constexpr int width = N < pack_width<T> ? N : pack_width<T>;
#pragma unroll
    for (int first = 0; first < N; first += width) {
      const auto pack = Pack<T, width>::template load<Hint>(from + first);
#pragma unroll
      for (int i = 0; i < width; ++i) to[first + i] = static_cast<Value>(pack[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (i < count) to[i] = static_cast<Value>(from[i]);
  }
}

// to += what is there, which is read again by others.
template <QuadAccess A, CacheHint Hint = CacheHint::keep, class T, int N>
__device__ __forceinline__ void add_quad(const T* from, int count, float (&to)[N]) {
  float term[N] = {};
  load_quad<A, Hint>(from, count, term);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] += term[i];
}

template <QuadAccess A, class T, int N>
__device__ __forceinline__ void store_quad(T* to, int count, const float (&from)[N]) {
  if (A == QuadAccess::vector && count == N) {
    constexpr int width = N < pack_width<T> ? N : pack_width<T>;
#pragma unroll
    for (int first = 0; first < N; first += width) {
      Pack<T, width> pack;
#pragma unroll
      for (int i = 0; i < width; ++i) pack[i] = static_cast<T>(from[first + i]);
      pack.store(to + first);
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (i < count) to[i] = static_cast<T>(from[i]);
  }
}

// The quad of a thread: `first` within its sample, `count` elements. Samples are walked with stride
// gridDim.y.
struct SampleQuad {
  std::int64_t first;
  int count;

  __device__ __forceinline__ static SampleQuad at(std::int64_t first, std::int64_t per_sample) {
    const std::int64_t left = per_sample - first;
    return {first, static_cast<int>(left < 0 ? 0 : left < quad ? left : quad)};
  }
  __device__ __forceinline__ static SampleQuad of_thread(std::int64_t per_sample) {
    return at((std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * quad, per_sample);
  }
};

// The random words of a quad of sample n.
__device__ __forceinline__ PhiloxWords quad_words(RandomPosition position, int n, const SampleQuad& own) {
  position.sample += static_cast<std::uint64_t>(n);
  return random_words(position, static_cast<std::uint32_t>(own.first / quad));
}

// Covers every quad of a sample along x, and all samples along y, or as many as fill a GPU.
inline dim3 quad_grid(int samples, std::int64_t per_sample, int threads) {
  constexpr int most = 1024;
  return {blocks_for(per_sample, threads * quad), static_cast<unsigned>(std::min(samples, most))};
}

// Whether each of the arrays starts where its quads are aligned, sample after sample; null ones do.
template <class... T>
QuadAccess quad_access(std::int64_t per_sample, const T*... arrays) {
  const bool is_whole = per_sample % quad == 0;
  return is_whole && (is_aligned<quad>(arrays) && ...) ? QuadAccess::vector : QuadAccess::scalar;
}

// The same for flat buffers, where only the last quad may be incomplete and is moved element by element.
template <class... T>
QuadAccess flat_quad_access(const T*... arrays) {
  return (is_aligned<quad>(arrays) && ...) ? QuadAccess::vector : QuadAccess::scalar;
}

}  // namespace ddpm::kernels
