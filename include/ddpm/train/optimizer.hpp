// SPDX-License-Identifier: MIT
// AdamW over a model's flat parameter buffer.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include <ddpm/nn/parameter.hpp>
#include <ddpm/ops/adamw.hpp>
#include <ddpm/ops/reduce.hpp>
#include <ddpm/train/ema.hpp>

namespace ddpm {

template <TrainableModel M>
class AdamW {
 public:
  using Real = Accumulator<typename M::value_type>;
  using D = typename M::device_type;

  // Keeps the address of the model's buffer, which stays when the model moves.
  AdamW(M& model, const AdamWOptions& options)
      : options_(options), storage_(model.parameters().storage()), squared_norm_(storage_->device, {1}) {
    model.parameters().enable_gradients();
    first_ = Tensor<Real, D>::zeros(storage_->device, {storage_->size});
    second_ = Tensor<Real, D>::zeros(storage_->device, {storage_->size});
  }

  // Updates the weights from the gradients and clears those.
  void step() { update(nullptr, 0); }

  // The same, and the average in the same pass.
  void step(Ema<M>& ema) {
    update(ema.average(), ema.next_decay());
    ema.model().parameters().changed();
  }

  // The global norm of the gradients. They must not change before the next step(), which does not measure again.
  Real measure_gradients() {
    squared_norm<Real, D>(storage_->gradients, squared_norm_);
    is_measured_ = true;
    return grad_norm();
  }

  // The global norm of the gradients that the last step() saw, where it clips.
  Real grad_norm() const { return std::sqrt(squared_norm_.to_host().front()); }

  AdamWOptions& options() { return options_; }  // a learning rate schedule writes .lr
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }
  TensorView<Real, D> first() const { return first_; }
  TensorView<Real, D> second() const { return second_; }

 private:
  void update(Real* average, double ema_decay) {
    const D& device = storage_->device;
    const bool clips = options_.grad_clip > 0;
    const bool is_measured = std::exchange(is_measured_, false);
    if (clips && !is_measured) squared_norm<Real, D>(storage_->gradients, squared_norm_);
    ++steps_;
    launch(device,
           AdamWUpdate<Real>{storage_->values.data(), storage_->gradients.data(), first_.data(),
                             second_.data(), average, nullptr, clips ? squared_norm_.data() : nullptr,
                             options_, 1 - std::pow(options_.beta1, double(steps_)),
                             1 - std::pow(options_.beta2, double(steps_)), ema_decay, storage_->size});
    storage_->gradients.zero();
    ++storage_->version;
  }

  AdamWOptions options_;
  ParameterStorage<typename M::value_type, D>* storage_;
  Tensor<Real, D> first_, second_;
  Tensor<Real, D> squared_norm_;
  bool is_measured_ = false;
  std::int64_t steps_ = 0;
};

// Learning rates by optimizer step, counted from 1.
inline double linear_warmup(double lr, std::int64_t step, std::int64_t warmup) {
  return step >= warmup ? lr : lr * static_cast<double>(step) / static_cast<double>(warmup);
}

// Warmup, then a cosine from lr down to `last` at `progress` 1 (of the steps, or of the time there is).
inline double cosine_decay(double lr, double last, double progress) {
  return last +
         (lr - last) * 0.5 * (1 + std::cos(3.141592653589793 * std::min(std::max(progress, 0.0), 1.0)));
}

// A learning rate as data: warmup to `peak`, then constant, or a cosine down to `last` at step `decay_steps`.
struct LearningRate {
  double peak = 2e-4;
  std::int64_t warmup = 0;
  std::int64_t decay_steps = 0;  // 0: constant
  double last = 0;

  // At step 1, 2, ... of the optimizer.
  double at(std::int64_t step) const {
    if (step < warmup || decay_steps == 0) return linear_warmup(peak, step, warmup);
    return cosine_decay(peak, last,
                        static_cast<double>(step - warmup) /
                            static_cast<double>(std::max<std::int64_t>(decay_steps - warmup, 1)));
  }
};

}  // namespace ddpm
