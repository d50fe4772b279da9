// SPDX-License-Identifier: MIT
// Sums and maxima over a warp or a block, in an order that depends on nothing but the number of threads.
#pragma once

#include <cstdint>

#include <ddpm/kernels/arch/target.cuh>

namespace ddpm::kernels {

// Where each warp of a grid along x has a row.
__device__ __forceinline__ std::int64_t row_of_warp() {
  return std::int64_t{blockIdx.x} * (blockDim.x / warp_size) + threadIdx.x / warp_size;
}

// Every lane gets the result of its group of `Lanes` neighbours, the whole warp if not given.
template <int Lanes, class Combine>
__device__ __forceinline__ float warp_reduce(float value, Combine combine) {
#pragma unroll
  for (int distance = Lanes / 2; distance > 0; distance /= 2)
    value = combine(value, __shfl_xor_sync(full_warp, value, distance));
  return value;
}

template <int Lanes = warp_size>
__device__ __forceinline__ float warp_sum(float value) {
  return warp_reduce<Lanes>(value, [](float a, float b) { return a + b; });
}

template <int Lanes = warp_size>
__device__ __forceinline__ float warp_max(float value) {
  return warp_reduce<Lanes>(value, [](float a, float b) { return a > b ? a : b; });
}

template <int Threads>
struct BlockSumShared {
  static_assert(Threads % warp_size == 0);
  float of_warp[Threads / warp_size];
};

// Every thread gets the sum. All threads of the block call it; `shared` may be reused at once.
template <int Threads>
__device__ __forceinline__ float block_sum(float value, BlockSumShared<Threads>& shared) {
  const float of_own_warp = warp_sum(value);
  if (threadIdx.x % warp_size == 0) shared.of_warp[threadIdx.x / warp_size] = of_own_warp;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int warp = 0; warp < Threads / warp_size; ++warp) sum += shared.of_warp[warp];
  __syncthreads();
  return sum;
}

}  // namespace ddpm::kernels
