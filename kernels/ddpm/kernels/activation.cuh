// SPDX-License-Identifier: MIT
// SiLU and softmax, forward and backward.  Math and parameters: ddpm/ops/activation.hpp.
// Algorithm: SiLU by four neighbouring elements per thread; softmax by one warp per row, which reads the row
// again for each of its passes, from L1 where it fits. Cost: reads 1x and writes 1x from DRAM.  Bound: DRAM
// bandwidth.
#pragma once

#include <ddpm/kernels/block/quad.cuh>
#include <ddpm/kernels/block/reduce.cuh>
#include <ddpm/ops/activation.hpp>

namespace ddpm::kernels {

struct ActivationPolicy {
  static constexpr int threads = 256;
};

template <class P, QuadAccess A, class T>
__global__ __launch_bounds__(P::threads) void silu_kernel(const __grid_constant__ SiluForward<T> p) {
  const auto own = SampleQuad::of_thread(p.count);
  if (own.count == 0) return;
  float x[quad] = {};
  load_quad<A>(p.x + own.first, own.count, x);
  for (float& value : x) value = silu_value(value);
  store_quad<A>(p.y + own.first, own.count, x);
}

template <class P, QuadAccess A, class T>
__global__ __launch_bounds__(P::threads) void silu_backward_kernel(
    const __grid_constant__ SiluBackward<T> p) {
  const auto own = SampleQuad::of_thread(p.count);
  if (own.count == 0) return;
  float x[quad] = {}, dy[quad] = {};
  load_quad<A>(p.x + own.first, own.count, x);
  load_quad<A>(p.dy + own.first, own.count, dy);
  for (int i = 0; i < quad; ++i) dy[i] *= silu_slope(x[i]);
  store_quad<A>(p.dx + own.first, own.count, dy);
}

template <class P, class T>
__global__ __launch_bounds__(P::threads) void softmax_kernel(const __grid_constant__ SoftmaxForward<T> p) {
  const std::int64_t row = row_of_warp();
  if (row >= p.rows) return;
  const T* const x = p.x + row * p.cols;
  T* const y = p.y + row * p.cols;
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  float largest = static_cast<float>(x[0]), sum = 0;
  for (int i = lane; i < p.cols; i += warp_size) largest = fmaxf(largest, static_cast<float>(x[i]));
  largest = warp_max(largest);
  for (int i = lane; i < p.cols; i += warp_size) sum += std::exp(static_cast<float>(x[i]) - largest);
  const float scale = 1.0f / warp_sum(sum);
  for (int i = lane; i < p.cols; i += warp_size)
    y[i] = static_cast<T>(std::exp(static_cast<float>(x[i]) - largest) * scale);
}

template <class P, class T>
__global__ __launch_bounds__(P::threads) void softmax_backward_kernel(
    const __grid_constant__ SoftmaxBackward<T> p) {
  const std::int64_t row = row_of_warp();
  if (row >= p.rows) return;
  const T *const y = p.y + row * p.cols, *const dy = p.dy + row * p.cols;
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  float dot = 0;
  for (int i = lane; i < p.cols; i += warp_size) dot += static_cast<float>(y[i]) * static_cast<float>(dy[i]);
  dot = warp_sum(dot);
  for (int i = lane; i < p.cols; i += warp_size)
    p.dx[row * p.cols + i] = static_cast<T>(static_cast<float>(y[i]) * (static_cast<float>(dy[i]) - dot));
}

}  // namespace ddpm::kernels

namespace ddpm {

template <GpuLike D, class T>
void launch(const D& device, const SiluForward<T>& p) {
  using Policy = kernels::ActivationPolicy;
  const bool is_vector = kernels::flat_quad_access(p.x, p.y) == kernels::QuadAccess::vector;
  kernels::launch_kernel(device, kernels::quad_grid(1, p.count, Policy::threads), Policy::threads,
                         is_vector ? kernels::silu_kernel<Policy, kernels::QuadAccess::vector, T>
                                   : kernels::silu_kernel<Policy, kernels::QuadAccess::scalar, T>,
                         p);
}

template <GpuLike D, class T>
void launch(const D& device, const SiluBackward<T>& p) {
  using Policy = kernels::ActivationPolicy;
  const bool is_vector = kernels::flat_quad_access(p.x, p.dy, p.dx) == kernels::QuadAccess::vector;
  kernels::launch_kernel(device, kernels::quad_grid(1, p.count, Policy::threads), Policy::threads,
                         is_vector ? kernels::silu_backward_kernel<Policy, kernels::QuadAccess::vector, T>
                                   : kernels::silu_backward_kernel<Policy, kernels::QuadAccess::scalar, T>,
                         p);
}

template <GpuLike D, class T>
void launch(const D& device, const SoftmaxForward<T>& p) {
  using Policy = kernels::ActivationPolicy;
  kernels::launch_kernel(device, kernels::blocks_for(p.rows, Policy::threads / warp_size), Policy::threads,
                         kernels::softmax_kernel<Policy, T>, p);
}

template <GpuLike D, class T>
void launch(const D& device, const SoftmaxBackward<T>& p) {
  using Policy = kernels::ActivationPolicy;
  kernels::launch_kernel(device, kernels::blocks_for(p.rows, Policy::threads / warp_size), Policy::threads,
                         kernels::softmax_backward_kernel<Policy, T>, p);
}

}  // namespace ddpm
