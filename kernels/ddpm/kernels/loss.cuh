// SPDX-License-Identifier: MIT
// Mean squared error and its gradient.  Math and parameters: ddpm/ops/loss.hpp.
// Algorithm: each thread has four elements, each block leaves one partial sum, one more block adds those in
// order. Cost: reads prediction, and target where it is stored, once, writes the gradient once.  Bound: DRAM
// bandwidth.
#pragma once

#include <ddpm/core/tensor.hpp>
#include <ddpm/kernels/block/quad.cuh>
#include <ddpm/kernels/block/reduce.cuh>
#include <ddpm/kernels/reduce.cuh>
#include <ddpm/ops/loss.hpp>

namespace ddpm::kernels {

struct LossPolicy {
  static constexpr int threads = 256;
};

template <class T>
struct MseLossPartials {
  MseLoss<T> op;
  float* partial;  // [blocks]
};

template <class P, QuadAccess A, class T>
__global__ __launch_bounds__(P::threads) void mse_loss_kernel(const __grid_constant__ MseLossPartials<T> p) {
  auto& shared = shared_memory<BlockSumShared<P::threads>>();
  const MseLoss<T>& op = p.op;
  const auto own = SampleQuad::of_thread(op.per_sample);
  const float inverse_count = 1.0f / (static_cast<float>(op.n) * static_cast<float>(op.per_sample));
  float sum = 0;
  for (int n = static_cast<int>(blockIdx.y); n < op.n && own.count > 0; n += static_cast<int>(gridDim.y)) {
    const std::int64_t at = n * op.per_sample + own.first;
    const float weight = op.weight ? op.weight[n] : 1.0f;
    float prediction[quad] = {}, target[quad] = {}, gradient[quad];
    load_quad<A>(op.prediction + at, own.count, prediction);
    if (op.target) {
      load_quad<A>(op.target + at, own.count, target);
    } else {
      const Normals drawn = normals(quad_words(op.position, n, own));
      for (int i = 0; i < quad; ++i)
        if (i < own.count) target[i] = drawn.value[i];
    }
    for (int i = 0; i < quad; ++i) {
      // Not contracted with the product that ends normals(), so that noise drawn again has the stored bits.
      const float difference = __fadd_rn(prediction[i], -target[i]);
      sum += weight * difference * difference;
      gradient[i] = 2 * weight * difference * inverse_count;
    }
    if (op.dprediction) store_quad<A>(op.dprediction + at, own.count, gradient);
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) p.partial[blockIdx.y * gridDim.x + blockIdx.x] = sum * inverse_count;
}

}  // namespace ddpm::kernels

namespace ddpm {

template <GpuLike D, class T>
void launch(const D& device, const MseLoss<T>& p) {
  using Policy = kernels::LossPolicy;
  using Shared = kernels::BlockSumShared<Policy::threads>;
  const dim3 grid = kernels::quad_grid(p.n, p.per_sample, Policy::threads);
  const int blocks = static_cast<int>(grid.x * grid.y);
  const Tensor<float, D> partial(device, {blocks});
  const bool is_vector = kernels::quad_access(p.per_sample, p.prediction, p.target, p.dprediction) ==
                         kernels::QuadAccess::vector;
  kernels::launch_kernel<Shared>(device, grid, Policy::threads,
                                 is_vector ? kernels::mse_loss_kernel<Policy, kernels::QuadAccess::vector, T>
                                           : kernels::mse_loss_kernel<Policy, kernels::QuadAccess::scalar, T>,
                                 {p, partial.data()});
  kernels::launch_sum_of_partials(device, partial.view(), p.loss);
}

}  // namespace ddpm
