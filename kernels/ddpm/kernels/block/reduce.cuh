// SPDX-License-Identifier: MIT
// Sums and maxima over a warp or a block, in an order that depends on nothing but the number of threads.
#pragma once

#include <ddpm/kernels/arch/target.cuh>

namespace ddpm::kernels {

// Every lane gets the result.
template <class Combine>
__device__ __forceinline__ float warp_reduce(float value, Combine combine) {
#pragma unroll
  for (int distance = warp_size / 2; distance > 0; distance /= 2)
    value = combine(value, __shfl_xor_sync(full_warp, value, distance));
  return value;
}

__device__ __forceinline__ float warp_sum(float value) {
  return warp_reduce(value, [](float a, float b) { return a + b; });
}

__device__ __forceinline__ float warp_max(float value) {
  return warp_reduce(value, [](float a, float b) { return a > b ? a : b; });
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
