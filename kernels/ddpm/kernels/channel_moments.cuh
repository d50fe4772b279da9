// SPDX-License-Identifier: MIT
// Moments of each channel over slabs of pixels, of a tensor that is there already.  Math and parameters:
// ddpm/ops/channel_moments.hpp.
// Algorithm: a thread per channel of a slab, which reads it twice, the second time about its mean.
// Cost: reads once from DRAM, once from L1 or L2.  Bound: DRAM bandwidth.
#pragma once

#include <ddpm/kernels/launch.cuh>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm::kernels {

struct ChannelMomentsPolicy {
  static constexpr int threads = 64;
};

template <class T>
struct ChannelMomentsOf {
  const T* y;                      // [N, HW, C]
  ChannelMoments<float>* moments;  // [N, Slabs, C]
  int hw, c;
};

template <class P, class T>
__global__ __launch_bounds__(P::threads) void channel_moments_kernel(
    const __grid_constant__ ChannelMomentsOf<T> p) {
  const auto column_blocks = static_cast<unsigned>((p.c + P::threads - 1) / P::threads);
  const int channel = static_cast<int>(blockIdx.x % column_blocks * P::threads + threadIdx.x);
  if (channel >= p.c) return;
  const int slabs = moments_slabs(p.hw);
  const std::int64_t slab = blockIdx.x / column_blocks;  // of all samples
  const int first = static_cast<int>(slab % slabs) * moments_slab, pixels = min(moments_slab, p.hw - first);
  const T* const from = p.y + (slab / slabs * p.hw + first) * p.c + channel;
  float sum = 0, deviation = 0;
  for (int i = 0; i < pixels; ++i) sum += static_cast<float>(from[std::int64_t{i} * p.c]);
  const float mean = sum / static_cast<float>(pixels);
  for (int i = 0; i < pixels; ++i) {
    const float difference = static_cast<float>(from[std::int64_t{i} * p.c]) - mean;
    deviation += difference * difference;
  }
  p.moments[slab * p.c + channel] = {mean, deviation};
}

// Of what a convolution has written.
template <GpuLike D, class T>
void launch_channel_moments(const D& device, const Conv2dForward<T>& p) {
  using Policy = ChannelMomentsPolicy;
  const Conv2dGeometry& g = p.shape;
  const int hw = g.p * g.q;
  const std::int64_t slabs = std::int64_t{g.n} * moments_slabs(hw);
  launch_kernel(device, static_cast<unsigned>(slabs * blocks_for(g.cout, Policy::threads)), Policy::threads,
                channel_moments_kernel<Policy, T>, {p.y, p.moments, hw, g.cout});
}

}  // namespace ddpm::kernels
