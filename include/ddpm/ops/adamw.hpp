// SPDX-License-Identifier: MIT
// AdamW with gradient clipping, an exponential moving average and a bf16 copy of the weights, in one pass over flat
// buffers.
//
//   g = gradient * min(1, max_norm / (||gradient|| + 1e-6))                     (torch.nn.utils.clip_grad_norm_)
//   value -= lr * weight_decay * value
//   first = beta1 first + (1 - beta1) g
//   second = beta2 second + (1 - beta2) g^2
//   value -= lr / (1 - beta1^step) * first / (sqrt(second / (1 - beta2^step)) + eps)        (torch.optim.AdamW)
//   average = ema_decay * average + (1 - ema_decay) * value
//   copy = value, rounded to bf16
#pragma once

#include <cmath>

#include <ddpm/ops/conv2d.hpp>

namespace ddpm {

struct AdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  double grad_clip = 0;  // the largest global norm of the gradients; 0: not clipped
};

// What the formulas above take from the number of the step and from options that change; made in double.
struct AdamWStep {
  double keep;        // 1 - lr * weight_decay
  double step_size;   // lr / (1 - beta1^step)
  double root_scale;  // 1 / sqrt(1 - beta2^step)
  double ema_decay;
};

// Of step 1, 2, ...
inline AdamWStep adamw_step(const AdamWOptions& options, std::int64_t step, double ema_decay = 0) {
  const auto correction = [step](double beta) { return 1 - std::pow(beta, static_cast<double>(step)); };
  return {1 - options.lr * options.weight_decay, options.lr / correction(options.beta1),
          1 / std::sqrt(correction(options.beta2)), ema_decay};
}

// Real is the type of the master weights.
template <class Real>
struct AdamWUpdate {
  Real* value;
  const Real* gradient;
  Real* first;
  Real* second;
  Real* average;             // or null
  bf16* copy;                // or null
  const Real* squared_norm;  // [1], of all gradients; null: no clipping
  const AdamWStep* step;     // [1], on the device, so that a recorded update serves every step
  AdamWOptions options;      // of which lr and weight_decay are in *step
  std::int64_t count;
};

// average = decay * average + (1 - decay) * value
template <class Real>
struct EmaUpdate {
  const Real* value;
  Real* average;
  const double* decay;  // [1], on the device
  std::int64_t count;
};

// The factor that clips gradients of the given squared norm.
template <class Real>
DDPM_HOST_DEVICE Real clip_factor(Real squared_norm, Real max_norm) {
  const Real factor = max_norm / (std::sqrt(squared_norm) + Real(1e-6));
  return factor < Real(1) ? factor : Real(1);
}

}  // namespace ddpm
