// SPDX-License-Identifier: MIT
// The reverse step.  Math and parameters: ddpm/ops/denoising.hpp.
// Algorithm: each thread updates the four elements of one Philox block; the step's coefficients come from the
// table. Cost: reads x and the model's output once, writes x, and its copy for the model where wanted, once.
// Bound: DRAM bandwidth.
#pragma once

#include <ddpm/kernels/block/quad.cuh>
#include <ddpm/ops/denoising.hpp>

namespace ddpm::kernels {

struct DenoisingPolicy {
  static constexpr int threads = 256;
};

template <class P, QuadAccess A, class T>
__global__ __launch_bounds__(P::threads) void denoising_kernel(const __grid_constant__ Denoising<T> p) {
  const auto own = SampleQuad::of_thread(p.per_sample);
  if (own.count == 0) return;
  const int step = *p.step;
  const DenoisingCoefficients<float> k = p.table[step];
  RandomPosition position = p.position;
  position.step = static_cast<std::uint32_t>(step);
  for (int n = static_cast<int>(blockIdx.y); n < p.n; n += static_cast<int>(gridDim.y)) {
    const std::int64_t at = n * p.per_sample + own.first;
    float x[quad] = {}, m[quad] = {}, z[quad] = {}, x0[quad];
    load_quad<A>(p.x + at, own.count, x);
    load_quad<A>(p.model_output + at, own.count, m);
    if (k.sigma != 0 && p.noise) {
      load_quad<A>(p.noise + at, own.count, z);
    } else if (k.sigma != 0) {
      const Normals drawn = normals(quad_words(position, n, own));
      for (int i = 0; i < quad; ++i) z[i] = drawn.value[i];
    }
    for (int i = 0; i < quad; ++i) {
      x0[i] = fminf(fmaxf(k.x0_from_x * x[i] + k.x0_from_m * m[i], -p.clip), p.clip);
      x[i] = k.x_from_x0 * x0[i] + k.x_from_x * x[i] + k.x_from_m * m[i] + k.sigma * z[i];
    }
    store_quad<A>(p.x + at, own.count, x);
    if (p.x0) store_quad<A>(p.x0 + at, own.count, x0);
    if (p.model_input) store_quad<A>(p.model_input + at, own.count, x);
  }
}

// One block, so that every thread reads the counter before one of them advances it.
template <class P>
__global__ __launch_bounds__(P::threads) void begin_step_kernel(const __grid_constant__ BeginStep<float> p) {
  const int step = *p.step + 1;
  __syncthreads();
  if (threadIdx.x == 0) *p.step = step;
  const std::int32_t t = p.table[step].t;
  for (int n = static_cast<int>(threadIdx.x); n < p.n; n += P::threads) p.t[n] = t;
}

template <class P, QuadAccess A, class T>
__global__ __launch_bounds__(P::threads) void fill_normal_kernel(const __grid_constant__ FillNormal<T> p) {
  const auto own = SampleQuad::of_thread(p.per_sample);
  if (own.count == 0) return;
  for (int n = static_cast<int>(blockIdx.y); n < p.n; n += static_cast<int>(gridDim.y))
    store_quad<A>(p.x + n * p.per_sample + own.first, own.count,
                  normals(quad_words(p.position, n, own)).value);
}

}  // namespace ddpm::kernels

namespace ddpm {

template <GpuLike D, class T>
void launch(const D& device, const Denoising<T>& p) {
  using Policy = kernels::DenoisingPolicy;
  const bool is_vector = kernels::quad_access(p.per_sample, p.x, p.model_output, p.noise, p.x0,
                                              p.model_input) == kernels::QuadAccess::vector;
  kernels::launch_kernel(device, kernels::quad_grid(p.n, p.per_sample, Policy::threads), Policy::threads,
                         is_vector ? kernels::denoising_kernel<Policy, kernels::QuadAccess::vector, T>
                                   : kernels::denoising_kernel<Policy, kernels::QuadAccess::scalar, T>,
                         p);
}

template <GpuLike D>
void launch(const D& device, const BeginStep<float>& p) {
  using Policy = kernels::DenoisingPolicy;
  kernels::launch_kernel(device, 1, Policy::threads, kernels::begin_step_kernel<Policy>, p);
}

template <GpuLike D, class T>
void launch(const D& device, const FillNormal<T>& p) {
  using Policy = kernels::DenoisingPolicy;
  const bool is_vector = kernels::quad_access(p.per_sample, p.x) == kernels::QuadAccess::vector;
  kernels::launch_kernel(device, kernels::quad_grid(p.n, p.per_sample, Policy::threads), Policy::threads,
                         is_vector ? kernels::fill_normal_kernel<Policy, kernels::QuadAccess::vector, T>
                                   : kernels::fill_normal_kernel<Policy, kernels::QuadAccess::scalar, T>,
                         p);
}

}  // namespace ddpm
