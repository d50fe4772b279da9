// SPDX-License-Identifier: MIT
// Means and variances put together from parts, after Chan, Golub & LeVeque 1983: squares are taken about the
// mean of each part, so that a mean far from zero costs the variance no digits.
#pragma once

#include <ddpm/kernels/block/reduce.cuh>

namespace ddpm::kernels {

struct Moments {
  float count;
  float mean;
  float squares;  // sum of squared differences from the mean
};

// Of part(0), ... part(parts - 1); part(0) must not be empty.
template <class Part>
__device__ __forceinline__ Moments combine(int parts, Part part) {
  const float origin = part(0).mean;
  float count = 0, offset = 0, squares = 0;
#pragma unroll
  for (int i = 0; i < parts; ++i) {
    const Moments m = part(i);
    count += m.count;
    offset += m.count * (m.mean - origin);
  }
  const float mean = origin + offset / count;
#pragma unroll
  for (int i = 0; i < parts; ++i) {
    const Moments m = part(i);
    squares += m.squares + m.count * (m.mean - mean) * (m.mean - mean);
  }
  return {count, mean, squares};
}

// Of the parts that the lanes of a warp have; that of lane 0 must not be empty.
__device__ __forceinline__ Moments warp_combine(const Moments& own) {
  const float origin = __shfl_sync(full_warp, own.mean, 0);
  const float count = warp_sum(own.count);
  const float mean = origin + warp_sum(own.count * (own.mean - origin)) / count;
  return {count, mean, warp_sum(own.squares + own.count * (own.mean - mean) * (own.mean - mean))};
}

}  // namespace ddpm::kernels
