// SPDX-License-Identifier: MIT
// Forward noising.  Math and parameters: ddpm/ops/noising.hpp.
// Algorithm: each thread makes the four normals of one Philox block in registers and uses them at once.
// Cost: reads x0 (or pixels) once, writes each of x_t, the model's input and the target that is wanted once.
// Bound: DRAM bandwidth.
#pragma once

#include <ddpm/kernels/block/quad.cuh>
#include <ddpm/ops/noising.hpp>

namespace ddpm::kernels {

struct NoisingPolicy {
  static constexpr int threads = 256;
  static constexpr int blocks = 6;  // per multiprocessor; without it, ptxas spills for two more
};

// x0 of the quad that starts at element `first` of a sample, mirrored left to right if `is_mirrored`.
template <QuadAccess A, class T>
__device__ __forceinline__ void load_images(const Noising<T>& p, std::int64_t sample, const SampleQuad& own,
                                            bool is_mirrored, float (&x0)[quad]) {
  if (!is_mirrored) {
    if (p.pixels)
      load_quad<A>(p.pixels + sample + own.first, own.count, x0);
    else
      load_quad<A>(p.x0 + sample + own.first, own.count, x0);
  } else {
#pragma unroll
    for (int i = 0; i < quad; ++i) {
      if (i >= own.count) break;
      const auto element = static_cast<unsigned>(own.first + i), c = static_cast<unsigned>(p.c);
      const int column = static_cast<int>(element / c % static_cast<unsigned>(p.w));
      const std::int64_t from = sample + element + (p.w - 1 - 2 * column) * p.c;
      x0[i] = p.pixels ? static_cast<float>(p.pixels[from]) : static_cast<float>(p.x0[from]);
    }
  }
  if (p.pixels)
    for (float& value : x0) value = value / 127.5f - 1.0f;
}

template <class P, QuadAccess A, class T>
__global__ __launch_bounds__(P::threads, P::blocks) void noising_kernel(const __grid_constant__ Noising<T> p) {
  const std::int64_t per_sample = std::int64_t{p.h} * p.w * p.c;
  const auto own = SampleQuad::of_thread(per_sample);
  if (own.count == 0) return;
  for (int n = static_cast<int>(blockIdx.y); n < p.n; n += static_cast<int>(gridDim.y)) {
    const std::int64_t sample = n * per_sample, at = sample + own.first;
    float x0[quad] = {}, eps[quad] = {}, out[quad];
    load_images<A>(p, sample, own, p.flip && draw_flip(p.position, n), x0);
    if (p.noise) {
      load_quad<A>(p.noise + at, own.count, eps);
    } else {
      const Normals drawn = normals(quad_words(p.position, n, own));
      for (int i = 0; i < quad; ++i) eps[i] = drawn.value[i];
    }
    const int t = p.t[n];
    const float signal = p.signal[t], sigma = p.sigma[t];
    for (int i = 0; i < quad; ++i) out[i] = signal * x0[i] + sigma * eps[i];
    if (p.xt) store_quad<A>(p.xt + at, own.count, out);
    if (p.model_input) store_quad<A>(p.model_input + at, own.count, out);
    if (!p.target) continue;
    for (int i = 0; i < quad; ++i) out[i] = prediction_target(p.prediction, x0[i], eps[i], signal, sigma);
    store_quad<A>(p.target + at, own.count, out);
  }
}

template <class P>
__global__ __launch_bounds__(P::threads) void draw_timesteps_kernel(const __grid_constant__ DrawTimesteps p) {
  const int n = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (n < p.n) p.t[n] = draw_timestep(p.position, n, p.steps);
}

}  // namespace ddpm::kernels

namespace ddpm {

template <GpuLike D, class T>
void launch(const D& device, const Noising<T>& p) {
  using Policy = kernels::NoisingPolicy;
  const std::int64_t per_sample = std::int64_t{p.h} * p.w * p.c;
  const dim3 grid = kernels::quad_grid(p.n, per_sample, Policy::threads);
  const bool is_vector = kernels::quad_access(per_sample, p.x0, p.pixels, p.noise, p.xt, p.target,
                                              p.model_input) == kernels::QuadAccess::vector;
  kernels::launch_kernel(device, grid, Policy::threads,
                         is_vector ? kernels::noising_kernel<Policy, kernels::QuadAccess::vector, T>
                                   : kernels::noising_kernel<Policy, kernels::QuadAccess::scalar, T>,
                         p);
}

template <GpuLike D>
void launch(const D& device, const DrawTimesteps& p) {
  using Policy = kernels::NoisingPolicy;
  kernels::launch_kernel(device, kernels::blocks_for(p.n, Policy::threads), Policy::threads,
                         kernels::draw_timesteps_kernel<Policy>, p);
}

}  // namespace ddpm
