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

// What the update needs of its options, made in double on the host.
struct AdamWKernelParams {
  float* value;
  const float* gradient;
  float* first;
  float* second;
  float* average;             // or null
  bf16* copy;                 // or null
  const float* squared_norm;  // [1], or null
  float grad_clip;
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float keep;       // 1 - lr * weight_decay
  float step_size;  // lr / correction1
  float inverse_root_correction2;
  float eps;
  float ema_decay, one_minus_ema_decay;
  std::int64_t count;
};

template <class P, QuadAccess A>
__global__ __launch_bounds__(P::threads) void adamw_kernel(const __grid_constant__ AdamWKernelParams p) {
  const auto own = SampleQuad::of_thread(p.count);
  if (own.count == 0) return;
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
    const float root = std::sqrt(second[i]) * p.inverse_root_correction2 + p.eps;
    value[i] = p.keep * value[i] - p.step_size * first[i] / root;
    average[i] = p.ema_decay * average[i] + p.one_minus_ema_decay * value[i];
  }
  store_quad<A>(p.value + own.first, own.count, value);
  store_quad<A>(p.first + own.first, own.count, first);
  store_quad<A>(p.second + own.first, own.count, second);
  if (p.average) store_quad<A>(p.average + own.first, own.count, average);
  if (p.copy) store_quad<A>(p.copy + own.first, own.count, value);
}

struct EmaKernelParams {
  const float* value;
  float* average;
  float decay, one_minus_decay;
  std::int64_t count;
};

template <class P, QuadAccess A>
__global__ __launch_bounds__(P::threads) void ema_kernel(const __grid_constant__ EmaKernelParams p) {
  const auto own = SampleQuad::of_thread(p.count);
  if (own.count == 0) return;
  float value[quad] = {}, average[quad] = {};
  load_quad<A>(p.value + own.first, own.count, value);
  load_quad<A>(p.average + own.first, own.count, average);
  for (int i = 0; i < quad; ++i) average[i] = p.decay * average[i] + p.one_minus_decay * value[i];
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
                                          .grad_clip = real(o.grad_clip),
                                          .beta1 = real(o.beta1),
                                          .one_minus_beta1 = real(1 - o.beta1),
                                          .beta2 = real(o.beta2),
                                          .one_minus_beta2 = real(1 - o.beta2),
                                          .keep = real(1 - o.lr * o.weight_decay),
                                          .step_size = real(o.lr / p.correction1),
                                          .inverse_root_correction2 = real(1 / std::sqrt(p.correction2)),
                                          .eps = real(o.eps),
                                          .ema_decay = real(p.ema_decay),
                                          .one_minus_ema_decay = real(1 - p.ema_decay),
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
  const kernels::EmaKernelParams params{p.value, p.average, static_cast<float>(p.decay),
                                        static_cast<float>(1 - p.decay), p.count};
  const bool is_vector = kernels::flat_quad_access(p.value, p.average) == kernels::QuadAccess::vector;
  kernels::launch_kernel(device, kernels::quad_grid(1, p.count, Policy::threads), Policy::threads,
                         is_vector ? kernels::ema_kernel<Policy, kernels::QuadAccess::vector>
                                   : kernels::ema_kernel<Policy, kernels::QuadAccess::scalar>,
                         params);
}

}  // namespace ddpm
