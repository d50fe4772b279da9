// SPDX-License-Identifier: MIT
// The squared norm of a flat buffer.  Math and parameters: ddpm/ops/reduce.hpp.
// Algorithm: blocks whose number depends on the size alone each leave a partial sum, which a second kernel adds
// in order.
// Cost: reads 1x.  Bound: DRAM bandwidth.
#pragma once

#include <algorithm>

#include <ddpm/core/tensor.hpp>
#include <ddpm/kernels/block/quad.cuh>
#include <ddpm/kernels/block/reduce.cuh>
#include <ddpm/ops/reduce.hpp>

namespace ddpm::kernels {

struct ReducePolicy {
  static constexpr int threads = 256;
  static constexpr int most_blocks = 1024;
};

template <class T>
struct SumOfPartials {
  const float* partial;  // [count]
  int count;
  T* sum;
};

// One block.
template <class P, class T>
__global__ __launch_bounds__(P::threads) void sum_of_partials_kernel(
    const __grid_constant__ SumOfPartials<T> p) {
  auto& shared = shared_memory<BlockSumShared<P::threads>>();
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < p.count; i += P::threads) sum += p.partial[i];
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) *p.sum = static_cast<T>(sum);
}

template <class T>
struct SquaredNormPartials {
  SquaredNorm<T> op;
  float* partial;  // [blocks]
};

template <class P, QuadAccess A, class T>
__global__ __launch_bounds__(P::threads) void squared_norm_kernel(
    const __grid_constant__ SquaredNormPartials<T> p) {
  auto& shared = shared_memory<BlockSumShared<P::threads>>();
  const std::int64_t step = std::int64_t{gridDim.x} * P::threads * quad;
  float sum = 0;
  for (auto own = SampleQuad::of_thread(p.op.count); own.count > 0;
       own = SampleQuad::at(own.first + step, p.op.count)) {
    float x[quad] = {};
    load_quad<A>(p.op.x + own.first, own.count, x);
    for (const float value : x) sum += value * value;
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) p.partial[blockIdx.x] = sum;
}

// *sum = the partial sums added up.
template <class D, class T>
void launch_sum_of_partials(const D& device, const TensorView<float, D>& partial, T* sum) {
  using Policy = ReducePolicy;
  launch_kernel<BlockSumShared<Policy::threads>>(device, 1, Policy::threads,
                                                 sum_of_partials_kernel<Policy, T>,
                                                 {partial.data(), static_cast<int>(partial.numel()), sum});
}

}  // namespace ddpm::kernels

namespace ddpm {

template <GpuLike D, class T>
void launch(const D& device, const SquaredNorm<T>& p) {
  using Policy = kernels::ReducePolicy;
  using Shared = kernels::BlockSumShared<Policy::threads>;
  // At least one block, so that an empty buffer has the norm 0.
  const unsigned needed = kernels::blocks_for(p.count, Policy::threads * kernels::quad);
  const int blocks = static_cast<int>(std::clamp<unsigned>(needed, 1, Policy::most_blocks));
  const Tensor<float, D> partial(device, {blocks});
  const bool is_vector = kernels::flat_quad_access(p.x) == kernels::QuadAccess::vector;
  kernels::launch_kernel<Shared>(device, static_cast<unsigned>(blocks), Policy::threads,
                                 is_vector
                                     ? kernels::squared_norm_kernel<Policy, kernels::QuadAccess::vector, T>
                                     : kernels::squared_norm_kernel<Policy, kernels::QuadAccess::scalar, T>,
                                 {p, partial.data()});
  kernels::launch_sum_of_partials(device, partial.view(), p.out);
}

}  // namespace ddpm
