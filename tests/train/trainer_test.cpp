// SPDX-License-Identifier: MIT
// Trainer: accumulation, learning rate, averages, and what it does where a number is none.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <ddpm/ddpm.hpp>
#include <ddpm/train/trainer.hpp>

#include "catch_shim.hpp"
#include "train/tiny_run.hpp"

using namespace ddpm;
using namespace train_support;

namespace {

double largest(const std::vector<float>& a) {
  double most = 0;
  for (const float v : a) most = std::max(most, std::abs(double(v)));
  return most;
}

double worst(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(double(a[i]) - double(b[i])));
  return most;
}

std::vector<float> weights(const TinyRun& run) { return run.trainer.model().parameters().values().to_host(); }

TinyOptions with(int batch, int accumulate, double grad_clip = 1) {
  TinyOptions options;
  options.batch = batch;
  options.trainer.accumulate = accumulate;
  options.trainer.adamw.grad_clip = grad_clip;
  return options;
}

}  // namespace

TEST_CASE("4 batches of 32 train as one of 128", "[trainer]") {
  for (const double clip : {0.0, 0.05}) {
    TinyRun whole(with(128, 1, clip)), parts(with(32, 4, clip));
    for (int step = 1; step <= 3; ++step) {
      const StepReport a = whole.trainer.step(), b = parts.trainer.step();
      INFO("clip " << clip << ", step " << step);
      CHECK(a.step == step);
      CHECK(b.step == step);
      CHECK(a.lr == b.lr);
      CHECK(b.loss == Approx(a.loss).epsilon(1e-6));
      CHECK(b.grad_norm == Approx(a.grad_norm).epsilon(1e-5));
      // The first moment is the gradient of this step, and of those before.
      const auto moment = whole.trainer.optimizer().first().to_host();
      CHECK(worst(moment, parts.trainer.optimizer().first().to_host()) <
            (step == 1 ? 1e-6 : 1e-4) * largest(moment));
      CHECK(whole.trainer.position().rng == parts.trainer.position().rng);
      CHECK(whole.trainer.position().cursor == parts.trainer.position().cursor);
    }
  }
}

TEST_CASE("a step is what a loop by hand makes of it", "[trainer]") {
  TinyRun run, hand;
  AdamW optimizer{hand.diffusion.model(), {.grad_clip = 1}};
  Ema fast{hand.diffusion.model(), 0.9, {.warmup = true}},
      faster{hand.diffusion.model(), 0.5, {.warmup = true}};
  Rng rng{7};
  for (int step = 1; step <= 5; ++step) {
    double loss = 0;
    for (int i = 0; i < 3; ++i) loss += double(hand.diffusion.train_step(hand.loader.next(), rng).value());
    const auto gradients = hand.diffusion.model().parameters().gradients();
    affine(gradients, 1.0 / 3, 0, gradients);
    optimizer.options().lr = linear_warmup(1e-2, step, 4);
    optimizer.step(fast);
    faster.update();
    const StepReport report = run.trainer.step();
    CHECK(report.loss == loss / 3);
    CHECK(report.lr == linear_warmup(1e-2, step, 4));
    CHECK(report.grad_norm == double(optimizer.grad_norm()));
    CHECK(weights(run) == hand.diffusion.model().parameters().values().to_host());
    CHECK(run.trainer.averages()[0].model().parameters().values().to_host() ==
          fast.model().parameters().values().to_host());
    CHECK(run.trainer.averages()[1].model().parameters().values().to_host() ==
          faster.model().parameters().values().to_host());
  }
  CHECK(&run.trainer.best_model() == &run.trainer.averages()[0].model());
  CHECK(weights(run) != run.trainer.best_model().parameters().values().to_host());
}

TEST_CASE("without averages the model itself is sampled with", "[trainer]") {
  TinyOptions options;
  options.trainer.ema.clear();
  TinyRun run(options);
  run.trainer.step();
  CHECK(&run.trainer.best_model() == &run.trainer.model());
}

TEST_CASE("learning rates by step of the optimizer", "[trainer]") {
  const LearningRate constant{.peak = 2};
  CHECK(constant.at(1) == 2);
  CHECK(constant.at(1'000'000) == 2);
  const LearningRate warm{.peak = 2, .warmup = 4};
  CHECK(warm.at(1) == 0.5);
  CHECK(warm.at(4) == 2);
  CHECK(warm.at(5) == 2);
  const LearningRate cosine{.peak = 2, .warmup = 4, .decay_steps = 10, .last = 0.5};
  CHECK(cosine.at(3) == 1.5);
  CHECK(cosine.at(4) == Approx(2));
  CHECK(cosine.at(7) == Approx(1.25));
  CHECK(cosine.at(10) == Approx(0.5));
  CHECK(cosine.at(11) == Approx(0.5));
  const LearningRate all_warmup{.peak = 2, .warmup = 10, .decay_steps = 10, .last = 0.5};
  CHECK(all_warmup.at(9) == Approx(1.8));
  CHECK(std::isfinite(all_warmup.at(10)));
}

TEST_CASE("a loss that is no number leaves the trainer where the step began", "[trainer]") {
  TinyRun run, calm;
  run.trainer.step();
  calm.trainer.step();
  const TrainerPosition before = run.trainer.position();
  const auto values = run.trainer.model().parameters().values();
  const std::vector<float> kept = values.to_host();
  CHECK_FALSE(run.trainer.train_batch());
  auto poisoned = kept;
  std::ranges::fill(poisoned, std::numeric_limits<float>::quiet_NaN());
  values.upload(poisoned);
  run.trainer.model().parameters().changed();
  try {
    run.trainer.train_batch();
    FAIL("no error");
  } catch (const NonFiniteError& error) {
    CHECK(std::string(error.what()) == "training: the loss is nan at step 2, expected a finite number");
    CHECK(error.cursor == before.cursor + 8);
    CHECK(error.rng.samples == before.rng.samples + 8);
  }
  CHECK(run.trainer.position() == before);
  CHECK(run.loader.cursor() == before.cursor);
  values.upload(kept);
  run.trainer.model().parameters().changed();
  CHECK(run.trainer.step().loss == calm.trainer.step().loss);
  CHECK(weights(run) == weights(calm));
}

TEST_CASE("a gradient that is no number is not applied", "[trainer]") {
  TinyRun run;
  const auto before = weights(run);
  const TrainerPosition start = run.trainer.position();
  run.trainer.train_batch();
  const auto gradients = run.trainer.model().parameters().gradients();
  auto poisoned = gradients.to_host();
  poisoned[3] = std::numeric_limits<float>::infinity();
  gradients.upload(poisoned);
  try {
    run.trainer.step();
    FAIL("no error");
  } catch (const NonFiniteError& error) {
    CHECK(std::string(error.what()) ==
          "training: the norm of the gradient is inf at step 1, expected a finite number");
    CHECK(error.cursor == start.cursor + 12);
  }
  CHECK(weights(run) == before);
  CHECK(run.trainer.position() == start);
}

TEST_CASE("the held-out loss depends on the weights alone", "[trainer]") {
  TinyRun run;
  const auto loss = [&] { return held_out_loss(run.diffusion, run.trainer.model(), run.held_out, 2); };
  const double first = loss();
  CHECK(first == loss());
  run.trainer.step();
  const double later = loss();
  CHECK(later != first);
  CHECK(later == loss());
}

TEST_CASE("what a trainer refuses", "[trainer]") {
  CHECK_THROWS_AS(TinyRun(with(4, 0)), ConfigError);
  TinyOptions options;
  options.trainer.ema = {1.0};
  CHECK_THROWS_AS(TinyRun(options), ConfigError);
}
