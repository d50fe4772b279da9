// SPDX-License-Identifier: MIT
// Ema: an exponential moving average of a model's weights, itself a model.
#pragma once

#include <algorithm>
#include <array>

#include <ddpm/diffusion/concepts.hpp>
#include <ddpm/ops/adamw.hpp>

namespace ddpm {

struct EmaOptions {
  bool warmup = false;  // decay min(decay, (1 + n) / (10 + n)) at update n = 0, 1, ...
};

template <TrainableModel M>
class Ema {
 public:
  // The average starts as the model's present weights.
  Ema(const M& model, double decay, const EmaOptions& options = {})
      : source_(model.parameters().values()),
        average_(model.clone()),
        decay_(decay),
        options_(options),
        present_decay_(average_.device(), {1}) {
    check<ConfigError>(decay >= 0 && decay < 1, "Ema: the decay is ", decay,
                       ", expected at least 0 and below 1");
  }

  // Where optimizer.step(ema) is used, this is not to be called as well.
  void update() {
    present_decay_.upload(std::array{next_decay()});
    launch(average_.device(), EmaUpdate{source_.data(), average(), present_decay_.data(), source_.numel()});
    average_.parameters().changed();
  }

  const M& model() const { return average_; }
  M& model() { return average_; }

  // For a fused update: the flat average, and the decay of the update that is about to be made.
  auto* average() { return average_.parameters().values().data(); }
  double next_decay() {
    const double n = static_cast<double>(updates_++);
    return options_.warmup ? std::min(decay_, (1 + n) / (10 + n)) : decay_;
  }

  std::int64_t updates() const { return updates_; }
  void set_updates(std::int64_t updates) { updates_ = updates; }

 private:
  TensorView<Accumulator<typename M::value_type>, typename M::device_type> source_;
  M average_;
  double decay_;
  EmaOptions options_;
  std::int64_t updates_ = 0;
  Tensor<double, typename M::device_type> present_decay_;  // [1]
};

}  // namespace ddpm
