// SPDX-License-Identifier: MIT
// Trainer: batches to gradients to steps of AdamW and of the averages. What it does in a step can be written by hand in
// ten lines; what it adds is a position to save and to continue from, exactly.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/core/graph.hpp>
#include <ddpm/core/rng.hpp>
#include <ddpm/diffusion/diffusion.hpp>
#include <ddpm/ops/elementwise.hpp>
#include <ddpm/train/ema.hpp>
#include <ddpm/train/optimizer.hpp>

namespace ddpm {

// Endless batches in an order that is known from the cursor alone, such as a Loader.
template <class B>
concept BatchSource = requires(B batches, std::int64_t cursor) {
  batches.next();
  { std::as_const(batches).cursor() } -> std::convertible_to<std::int64_t>;
  batches.seek(cursor);
};

struct TrainerOptions {
  LearningRate lr = {};
  AdamWOptions adamw = {.grad_clip = 1};  // its lr is what `lr` says
  int accumulate = 1;                     // batches in a step: 4 of 32 images train as one of 128
  std::vector<double> ema = {0.9999};     // decays of the averages; the first is the one to sample with
  EmaOptions averages = {};
};

// Where a run stands. Together with the weights, moments, averages and, within a step, the gradients, it decides all that
// follows.
struct TrainerPosition {
  std::int64_t step = 0;    // steps done
  int batches = 0;          // of the step under way, whose gradients are held
  double loss = 0;          // the sum of their losses
  std::int64_t cursor = 0;  // of the loader
  Rng rng = {};

  friend bool operator==(const TrainerPosition&, const TrainerPosition&) = default;
};

struct StepReport {
  std::int64_t step = 0;  // 1, 2, ...
  double loss = 0;        // the mean over its batches
  double lr = 0;
  double grad_norm = 0;  // before it is clipped
};

// A loss or gradient that is no number. The trainer then stands where the step began, so that it can be looked at;
// `cursor` and `rng` are those behind the batch at fault.
struct NonFiniteError : Error {
  NonFiniteError(const std::string& what, std::int64_t cursor, const Rng& rng)
      : Error(what), cursor(cursor), rng(rng) {}
  std::int64_t cursor;
  Rng rng;
};

// Borrows the diffusion and the loader.
template <TrainableModel M, Schedule S, BatchSource Batches>
class Trainer {
 public:
  Trainer(Diffusion<M, S>& diffusion, Batches& batches, const TrainerOptions& options, const Rng& rng)
      : diffusion_(&diffusion),
        batches_(&batches),
        options_(options),
        optimizer_(diffusion.model(), options.adamw),
        at_{.cursor = batches.cursor(), .rng = rng} {
    check<ConfigError>(options.accumulate >= 1, "Trainer: accumulate is ", options.accumulate,
                       ", expected at least 1 batch in a step");
    for (const double decay : options.ema) averages_.emplace_back(diffusion.model(), decay, options.averages);
  }

  // Forward and backward of one batch; a report where it completes a step. Throws NonFiniteError.
  std::optional<StepReport> train_batch() {
    const std::uint64_t first = at_.rng.samples;
    const auto batch = batches_->next();
    diffusion_->begin_step(batch, at_.rng);
    if (!batch.is_same(batch_)) replay_.forget();
    batch_ = batch;
    replay_(model().device(), [&] { diffusion_->run_step(batch); });
    const double loss = static_cast<double>(diffusion_->loss().value());
    at_.cursor = batches_->cursor();
    at_.loss += loss;
    ++at_.batches;
    batch_size_ = static_cast<std::int64_t>(at_.rng.samples - first);
    if (!std::isfinite(loss)) give_up("loss", loss);
    if (at_.batches < options_.accumulate) return std::nullopt;
    return finish_step();
  }

  StepReport step() {
    for (;;)
      if (const auto report = train_batch()) return *report;
  }

  Diffusion<M, S>& diffusion() const { return *diffusion_; }
  Batches& batches() const { return *batches_; }
  M& model() const { return diffusion_->model(); }
  AdamW<M>& optimizer() { return optimizer_; }
  const AdamW<M>& optimizer() const { return optimizer_; }
  std::vector<Ema<M>>& averages() { return averages_; }
  const std::vector<Ema<M>>& averages() const { return averages_; }
  const TrainerOptions& options() const { return options_; }

  // The weights to sample with: the first average, or the model's own where there is none.
  const M& best_model() const { return averages_.empty() ? model() : averages_.front().model(); }

  const TrainerPosition& position() const { return at_; }
  // For a run that is continued; weights, moments, averages and gradients are put in place beside.
  void set_position(const TrainerPosition& position) {
    at_ = position;
    batches_->seek(position.cursor);
    optimizer_.set_steps(position.step);
    for (Ema<M>& average : averages_) average.set_updates(position.step);
  }

 private:
  StepReport finish_step() {
    const auto gradients = model().parameters().gradients();
    if (options_.accumulate > 1) affine(gradients, 1.0 / options_.accumulate, 0, gradients);
    const double norm = static_cast<double>(optimizer_.measure_gradients());
    if (!std::isfinite(norm)) give_up("norm of the gradient", norm);
    const double lr = optimizer_.options().lr = options_.lr.at(at_.step + 1);
    averages_.empty() ? optimizer_.step() : optimizer_.step(averages_.front());
    for (std::size_t i = 1; i < averages_.size(); ++i) averages_[i].update();
    at_.batches = 0;
    return {++at_.step, std::exchange(at_.loss, 0) / options_.accumulate, lr, norm};
  }

  [[noreturn]] void give_up(const char* what, double value) {
    const NonFiniteError error(message("training: the ", what, " is ", value, " at step ", at_.step + 1,
                                       ", expected a finite number"),
                               at_.cursor, at_.rng);
    model().parameters().gradients().zero();
    const std::int64_t taken = at_.batches * batch_size_;
    at_.cursor -= taken;
    at_.rng.samples -= static_cast<std::uint64_t>(taken);
    at_.batches = 0;
    at_.loss = 0;
    batches_->seek(at_.cursor);
    throw error;
  }

  Diffusion<M, S>* diffusion_;
  Batches* batches_;
  TrainerOptions options_;
  AdamW<M> optimizer_;
  std::vector<Ema<M>> averages_;
  TrainerPosition at_;
  std::int64_t batch_size_ = 0;
  // The loss and the norm of the gradient are looked at before the weights change, so the graph ends before that.
  Batch<Accumulator<typename M::value_type>, typename M::device_type> batch_;
  Replay<typename M::device_type> replay_;
};

// The mean loss of `model` over the next `count` batches of a loader, always with the draws of one seed. The loader of
// held-out images starts at its first image.
template <TrainableModel M, Schedule S, BatchSource Batches>
double held_out_loss(const Diffusion<M, S>& diffusion, const M& model, Batches& batches, int count) {
  Rng rng{0};
  batches.seek(0);
  double sum = 0;
  for (int i = 0; i < count; ++i)
    sum += static_cast<double>(diffusion.loss(model, batches.next(), rng).value());
  return sum / count;
}

}  // namespace ddpm
