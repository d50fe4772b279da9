// SPDX-License-Identifier: MIT
// AdamW with clipping, EMA and a bf16 copy of the weights.  Math and parameters: ddpm/ops/adamw.hpp.
// Algorithm: one launch over the flat buffers, four neighbouring weights per thread.
// Cost: reads five buffers once, writes five once.  Bound: DRAM bandwidth.
#pragma once

#include <ddpm/kernels/block/quad.cuh>
#include <ddpm/ops/adamw.hpp>

namespace ddpm::kernels {

struct AdamWPolicy {
  static constexpr int threads = 256;
};

// `step` is read in double, each of its values rounded once.
struct AdamWKernelParams {
  float* value;
  const float* gradient;
  float* first;
  float* second;
  float* average;             // or null
  bf16* copy;                 // or null
  const float* squared_norm;  // [1], or null
  const AdamWStep* step;
  float grad_clip;
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float eps;
  std::int64_t count;
};

template <class P, QuadAccess A>
__global__ __launch_bounds__(P::threads) void adamw_kernel(const __grid_constant__ AdamWKernelParams p) {
  const auto own = SampleQuad::of_thread(p.count);
  if (own.count == 0) return;
  const AdamWStep& s = *p.step;
  const auto keep = static_cast<float>(s.keep), step_size = static_cast<float>(s.step_size),
             root_scale = static_cast<float>(s.root_scale), ema_decay = static_cast<float>(s.ema_decay),
             one_minus_ema_decay = static_cast<float>(1 - s.ema_decay);
  const float clip = p.squared_norm ? clip_factor(*p.squared_norm, p.grad_clip) : 1.0f;
  float value[quad] = {}, gradient[quad] = {}, first[quad] = {}, second[quad] = {}, average[quad] = {};
  load_quad<A>(p.value + own.first, own.count, value);
  load_quad<A>(p.gradient + own.first, own.count, gradient);
  load_quad<A>(p.first + own.first, own.count, first);
  load_quad<A>(p.second + own.first, own.count, second);
  if (p.average) load_quad<A>(p.average + own.first, own.count, average);
  for (int i = 0; i < quad; ++i) {
    const float g = gradient[i] * clip;
    first[i] = p.beta1 * first[i] + p.one_minus_beta1 * g;
    second[i] = p.beta2 * second[i] + p.one_minus_beta2 * g * g;
    const float root = std::sqrt(second[i]) * root_scale + p.eps;
    value[i] = keep * value[i] - step_size * first[i] / root;
    average[i] = ema_decay * average[i] + one_minus_ema_decay * value[i];
  }
  store_quad<A>(p.value + own.first, own.count, value);
  store_quad<A>(p.first + own.first, own.count, first);
  store_quad<A>(p.second + own.first, own.count, second);
  if (p.average) store_quad<A>(p.average + own.first, own.count, average);
  if (p.copy) store_quad<A>(p.copy + own.first, own.count, value);
}

template <class P, QuadAccess A>
__global__ __launch_bounds__(P::threads) void ema_kernel(const __grid_constant__ EmaUpdate<float> p) {
  const auto own = SampleQuad::of_thread(p.count);
  if (own.count == 0) return;
  float value[quad] = {}, average[quad] = {};
  load_quad<A>(p.value + own.first, own.count, value);
  load_quad<A>(p.average + own.first, own.count, average);
  const auto decay = static_cast<float>(*p.decay), one_minus_decay = static_cast<float>(1 - *p.decay);
  for (int i = 0; i < quad; ++i) average[i] = decay * average[i] + one_minus_decay * value[i];
  store_quad<A>(p.average + own.first, own.count, average);
}

}  // namespace ddpm::kernels

namespace ddpm {

template <GpuLike D>
void launch(const D& device, const AdamWUpdate<float>& p) {
  using Policy = kernels::AdamWPolicy;
  const AdamWOptions& o = p.options;
  const auto real = [](double value) { return static_cast<float>(value); };
  const kernels::AdamWKernelParams params{.value = p.value,
                                          .gradient = p.gradient,
                                          .first = p.first,
                                          .second = p.second,
                                          .average = p.average,
                                          .copy = p.copy,
                                          .squared_norm = p.squared_norm,
                                          .step = p.step,
                                          .grad_clip = real(o.grad_clip),
                                          .beta1 = real(o.beta1),
                                          .one_minus_beta1 = real(1 - o.beta1),
                                          .beta2 = real(o.beta2),
                                          .one_minus_beta2 = real(1 - o.beta2),
                                          .eps = real(o.eps),
                                          .count = p.count};
  const bool is_vector = kernels::flat_quad_access(p.value, p.gradient, p.first, p.second, p.average,
                                                   p.copy) == kernels::QuadAccess::vector;
  kernels::launch_kernel(device, kernels::quad_grid(1, p.count, Policy::threads), Policy::threads,
                         is_vector ? kernels::adamw_kernel<Policy, kernels::QuadAccess::vector>
                                   : kernels::adamw_kernel<Policy, kernels::QuadAccess::scalar>,
                         params);
}

template <GpuLike D>
void launch(const D& device, const EmaUpdate<float>& p) {
  using Policy = kernels::AdamWPolicy;
  const bool is_vector = kernels::flat_quad_access(p.value, p.average) == kernels::QuadAccess::vector;
  kernels::launch_kernel(device, kernels::quad_grid(1, p.count, Policy::threads), Policy::threads,
                         is_vector ? kernels::ema_kernel<Policy, kernels::QuadAccess::vector>
                                   : kernels::ema_kernel<Policy, kernels::QuadAccess::scalar>,
                         p);
}

}  // namespace ddpm
