// SPDX-License-Identifier: MIT
// TrainingStep: forward and backward pass, the update of the weights and of their average, as one graph.
#pragma once

#include <ddpm/core/graph.hpp>
#include <ddpm/core/rng.hpp>
#include <ddpm/diffusion/diffusion.hpp>
#include <ddpm/train/ema.hpp>
#include <ddpm/train/optimizer.hpp>

namespace ddpm {

// Does what diffusion.train_step(batch, rng) and optimizer.step(ema) do, bit for bit, all of which it borrows:
//
//   TrainingStep step{diffusion, optimizer, &ema};
//   for (;;) step(loader.next(), rng);
//
// On a device that has graphs, all but the first few steps are one launch each. Of the optimizer's options only lr and
// weight_decay may change from then on; batches that lie in other memory start anew.
template <TrainableModel M, Schedule S>
class TrainingStep {
 public:
  using Real = Accumulator<typename M::value_type>;
  using D = typename M::device_type;

  TrainingStep(Diffusion<M, S>& diffusion, AdamW<M>& optimizer, Ema<M>* ema = nullptr)
      : diffusion_(&diffusion), optimizer_(&optimizer), ema_(ema) {}

  Loss<Real, D> operator()(const Batch<Real, D>& batch, Rng& rng) {
    diffusion_->begin_step(batch, rng);
    optimizer_->begin_step(ema_);
    if (!batch.is_same(batch_)) replay_.forget();
    batch_ = batch;
    replay_(diffusion_->model().device(), [&] {
      diffusion_->run_step(batch);
      optimizer_->run_step(ema_);
    });
    optimizer_->end_step(ema_);
    return diffusion_->loss();
  }

  bool is_recorded() const { return replay_.is_recorded(); }

 private:
  Diffusion<M, S>* diffusion_;
  AdamW<M>* optimizer_;
  Ema<M>* ema_;
  Batch<Real, D> batch_;  // of the recording
  Replay<D> replay_;
};

}  // namespace ddpm
