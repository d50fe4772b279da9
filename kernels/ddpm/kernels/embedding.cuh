// SPDX-License-Identifier: MIT
// Embeddings of time steps and of class labels.  Math and parameters: ddpm/ops/embedding.hpp.
// Algorithm: a frequency per thread, used for many samples; rows of the table by four neighbouring elements
// per thread. The gradient of a row is added up by the blocks of the first sample with its label, in the order
// of the samples, so it needs no atomics and has the bits of the host.
// Cost: reads and writes once; the gradient reads the labels once per sample.  Bound: latency.
#pragma once

#include <cmath>

#include <ddpm/kernels/block/quad.cuh>
#include <ddpm/ops/embedding.hpp>

namespace ddpm::kernels {

struct EmbeddingPolicy {
  static constexpr int threads = 128;
};

template <class P, class T>
__global__ __launch_bounds__(P::threads) void timestep_embedding_kernel(
    const __grid_constant__ TimestepEmbedding<T> p) {
  const int half = p.dim / 2, i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= p.dim - half) return;  // the last thread of an odd Dim has the zero
  const float frequency = i < half ? timestep_frequency<float>(i, half, p.freq_shift) : 0.0f;
  for (int n = static_cast<int>(blockIdx.y); n < p.n; n += static_cast<int>(gridDim.y)) {
    T* const y = p.y + std::int64_t{n} * p.dim;
    const double angle = static_cast<double>(static_cast<float>(p.t[n]) * frequency);
    if (i < half) {
      y[p.flip_sin_to_cos ? half + i : i] = static_cast<T>(std::sin(angle));
      y[p.flip_sin_to_cos ? i : half + i] = static_cast<T>(std::cos(angle));
    } else {
      y[p.dim - 1] = static_cast<T>(0.0f);
    }
  }
}

template <class P, QuadAccess A, class T>
__global__ __launch_bounds__(P::threads) void class_embedding_kernel(
    const __grid_constant__ ClassEmbedding<T> p) {
  const auto own = SampleQuad::of_thread(p.dim);
  if (own.count == 0) return;
  for (int n = static_cast<int>(blockIdx.y); n < p.n; n += static_cast<int>(gridDim.y)) {
    T* const y = p.y + std::int64_t{n} * p.dim + own.first;
    float row[quad] = {}, sum[quad] = {};
    load_quad<A, CacheHint::keep>(p.table + std::int64_t{p.label[n]} * p.dim + own.first, own.count, row);
    load_quad<A>(y, own.count, sum);
    for (int i = 0; i < quad; ++i) sum[i] += row[i];
    store_quad<A>(y, own.count, sum);
  }
}

__device__ __forceinline__ bool is_first_with_label(const std::int32_t* label, int n) {
  for (int i = 0; i < n; ++i)
    if (label[i] == label[n]) return false;
  return true;
}

template <class P, QuadAccess A, class T>
__global__ __launch_bounds__(P::threads) void class_embedding_backward_kernel(
    const __grid_constant__ ClassEmbeddingBackward<T> p) {
  const auto own = SampleQuad::of_thread(p.dim);
  if (own.count == 0) return;
  for (int first = static_cast<int>(blockIdx.y); first < p.n; first += static_cast<int>(gridDim.y)) {
    if (!is_first_with_label(p.label, first)) continue;
    float* const row = p.dtable + std::int64_t{p.label[first]} * p.dim + own.first;
    float sum[quad] = {};
    load_quad<A>(row, own.count, sum);
    for (int n = first; n < p.n; ++n) {
      if (p.label[n] != p.label[first]) continue;
      float dy[quad] = {};
      load_quad<A>(p.dy + std::int64_t{n} * p.dim + own.first, own.count, dy);
      for (int i = 0; i < quad; ++i) sum[i] += dy[i];
    }
    store_quad<A>(row, own.count, sum);
  }
}

}  // namespace ddpm::kernels

namespace ddpm {

template <GpuLike D, class T>
void launch(const D& device, const TimestepEmbedding<T>& p) {
  using Policy = kernels::EmbeddingPolicy;
  dim3 grid = kernels::quad_grid(p.n, 1, Policy::threads);
  grid.x = kernels::blocks_for(p.dim - p.dim / 2, Policy::threads);
  kernels::launch_kernel(device, grid, Policy::threads, kernels::timestep_embedding_kernel<Policy, T>, p);
}

template <GpuLike D, class T>
void launch(const D& device, const ClassEmbedding<T>& p) {
  using Policy = kernels::EmbeddingPolicy;
  const bool is_vector = kernels::quad_access(p.dim, p.table, p.y) == kernels::QuadAccess::vector;
  kernels::launch_kernel(device, kernels::quad_grid(p.n, p.dim, Policy::threads), Policy::threads,
                         is_vector ? kernels::class_embedding_kernel<Policy, kernels::QuadAccess::vector, T>
                                   : kernels::class_embedding_kernel<Policy, kernels::QuadAccess::scalar, T>,
                         p);
}

template <GpuLike D, class T>
void launch(const D& device, const ClassEmbeddingBackward<T>& p) {
  using Policy = kernels::EmbeddingPolicy;
  const bool is_vector = kernels::quad_access(p.dim, p.dy, p.dtable) == kernels::QuadAccess::vector;
  kernels::launch_kernel(
      device, kernels::quad_grid(p.n, p.dim, Policy::threads), Policy::threads,
      is_vector ? kernels::class_embedding_backward_kernel<Policy, kernels::QuadAccess::vector, T>
                : kernels::class_embedding_backward_kernel<Policy, kernels::QuadAccess::scalar, T>,
      p);
}

}  // namespace ddpm
