// SPDX-License-Identifier: MIT
// AdamW over a model's flat parameter buffer.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
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
      : options_(options),
        storage_(model.parameters().storage()),
        squared_norm_(storage_->device, {1}),
        step_(storage_->device, {1}) {
    model.parameters().enable_gradients();
    first_ = Tensor<Real, D>::zeros(storage_->device, {storage_->size});
    second_ = Tensor<Real, D>::zeros(storage_->device, {storage_->size});
  }

  // Updates the weights from the gradients and clears those.
  void step() { step(nullptr); }

  // The same, and the average in the same pass.
  void step(Ema<M>& ema) { step(&ema); }

  // The parts of step(). begin_step() puts what differs from step to step on the device, run_step() is the same work at
  // every step, so that it can be recorded; end_step() tells the models that their weights have changed.
  void begin_step(Ema<M>* ema) {
    measures_ = options_.grad_clip > 0 && !std::exchange(is_measured_, false);
    step_.upload(std::array{adamw_step(options_, ++steps_, ema ? ema->next_decay() : 0)});
  }
  void run_step(Ema<M>* ema) {
    if (measures_) squared_norm<Real, D>(storage_->gradients, squared_norm_);
    bf16* copy = nullptr;
    if constexpr (std::same_as<typename M::value_type, bf16>) copy = storage_->rounded().data();
    launch(storage_->device, AdamWUpdate<Real>{storage_->values.data(), storage_->gradients.data(),
                                               first_.data(), second_.data(), ema ? ema->average() : nullptr,
                                               copy, options_.grad_clip > 0 ? squared_norm_.data() : nullptr,
                                               step_.data(), options_, storage_->size});
    detail::check_outputs("adamw", storage_->values, first_, second_);
    storage_->gradients.zero();
  }
  void end_step(Ema<M>* ema) {
    storage_->updated();
    if (ema) ema->model().parameters().changed();
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
  void step(Ema<M>* ema) {
    begin_step(ema);
    run_step(ema);
    end_step(ema);
  }

  AdamWOptions options_;
  ParameterStorage<typename M::value_type, D>* storage_;
  Tensor<Real, D> first_, second_;
  Tensor<Real, D> squared_norm_;
  Tensor<AdamWStep, D> step_;
  bool is_measured_ = false;
  bool measures_ = false;  // in the step under way
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
