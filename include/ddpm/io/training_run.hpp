// SPDX-License-Identifier: MIT
// train: a Trainer's run in a folder: checkpoints, resume, signals, evaluation, pictures, logs and a report.
//
//   OUT/checkpoints/step-00001000/   what diffusers loads, and training_state.safetensors
//   OUT/checkpoints/best             a link to the one with the least held-out loss
//   OUT/samples/step-00001000.png    always of the same noise
//   OUT/metrics.jsonl, OUT/tensorboard/, OUT/loss.png, OUT/lr.png, OUT/held_out_loss.png, OUT/report.html
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ddpm/io/checkpoints.hpp>
#include <ddpm/io/detail/run_facts.hpp>
#include <ddpm/io/image.hpp>
#include <ddpm/io/metrics_log.hpp>
#include <ddpm/io/report.hpp>
#include <ddpm/io/training_state.hpp>
#include <ddpm/train/progress.hpp>
#include <ddpm/train/stop_signals.hpp>
#include <ddpm/train/trainer.hpp>

namespace ddpm::io {

// What to do where a loss or gradient is no number: stop, or go on from the last checkpoint with the batches after the
// one at fault.
enum class OnNonFinite { stop, roll_back };

struct RunOptions {
  std::filesystem::path out = "run";
  std::int64_t steps = 100'000;  // in all, those before a resume included
  bool resume = false;           // the run found in `out`; where there is none, one begins
  std::int64_t log_every = 50;   // steps; 0 here and below: never
  std::int64_t save_every = 1000;
  std::int64_t sample_every = 1000;
  std::int64_t evaluate_every = 1000;
  int keep = 2;  // checkpoints, beside the best
  int samples = 64;
  int sample_steps = 50;
  OnNonFinite on_non_finite = OnNonFinite::stop;
  SchedulerConfig scheduler = {};  // of the noise schedule in use, to be saved with the model
};

struct RunHooks {
  std::function<void(const StepReport&)> step = {};  // after each step
  std::function<double()> held_out_loss = {};        // of trainer.best_model(), say
};

namespace detail {

template <class T>
class TrainingRun {
 public:
  TrainingRun(T& trainer, const RunOptions& options, const RunHooks& hooks)
      : trainer_(trainer),
        options_(options),
        hooks_(hooks),
        checkpoints_(options.out / "checkpoints", options.keep),
        record_{.configuration = configuration_of(trainer, options.scheduler)},
        facts_(trainer) {
    check_schedule(trainer.diffusion().schedule(), options.scheduler);
    const std::vector<std::int64_t> saved = checkpoints_.steps();
    check<ConfigError>(saved.empty() || options.resume, options.out.string(), ": found a run saved at step ",
                       saved.empty() ? 0 : saved.back(), ", expected none, or to be told to resume it");
    if (!saved.empty()) restore(saved.back());
    make_folder(options.out / "samples");
    log_.emplace(options.out, trainer.position().step);
  }

  // 0, or the signal that ended the run.
  int run() {
    std::fprintf(stderr, "%s\n", facts_.plan_line().c_str());
    facts_.check_memory();
    const StopSignals signals;
    ProgressBar bar("training", stderr, done());
    start_ = Clock::now();
    first_sample_ = sample();
    while (trainer_.position().step < options_.steps && signals.received() == 0)
      if (const std::optional<StepReport> report = train_batch()) {
        after_step(*report);
        bar.update(done(), details_);
      }
    if (trainer_.position() != saved_) save();
    if (signals.received() == 0) bar.complete(details_);
    report();
    return signals.received();
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int most_rollbacks = 3;  // to one checkpoint

  double done() const {
    return double(trainer_.position().step) / double(std::max<std::int64_t>(options_.steps, 1));
  }
  std::uint64_t sample() const { return trainer_.position().rng.samples; }
  static bool is_due(std::int64_t step, std::int64_t every) { return every > 0 && step % every == 0; }

  // A report where the batch completed a step.
  std::optional<StepReport> train_batch() {
    const Clock::time_point start = Clock::now();
    try {
      const std::optional<StepReport> report = trainer_.train_batch();
      seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
      return report;
    } catch (const NonFiniteError& error) {
      recover(error);
      return std::nullopt;
    } catch (const std::bad_alloc&) {
      throw DeviceError(facts_.out_of_memory(), ENOMEM);
    } catch (const DeviceError& error) {
      constexpr int cuda_out_of_memory = 2;
      if (error.code != cuda_out_of_memory) throw;
      throw DeviceError(message(facts_.out_of_memory(), " (", error.what(), ")"), error.code);
    }
  }

  // The state in which the step began is saved apart, to be looked at.
  void recover(const NonFiniteError& error) {
    const std::filesystem::path dump =
        options_.out / message("failed-at-step-", trainer_.position().step + 1);
    replace_folder(dump, [&](const auto& folder) {
      write_training_folder(folder, trainer_, options_.scheduler, record_);
    });
    const std::string what = message(error.what(), "; the state before it is in ", dump.string());
    const std::vector<std::int64_t> saved = checkpoints_.steps();
    const bool can_go_on = options_.on_non_finite == OnNonFinite::roll_back && !saved.empty();
    check<Error>(can_go_on && rollbacks_ < most_rollbacks, what);
    ++rollbacks_;
    restore(saved.back());
    TrainerPosition position = trainer_.position();
    position.cursor = error.cursor;
    position.rng = error.rng;
    trainer_.set_position(position);
    log_->rewind(position.step);
    begin_interval();
    std::fprintf(stderr, "\n%s; going on from step %lld\n", what.c_str(),
                 static_cast<long long>(position.step));
  }

  void after_step(const StepReport& report) {
    losses_ += report.loss;
    ++unlogged_;
    if (is_due(report.step, options_.log_every)) log(report);
    char text[128];
    std::snprintf(text, sizeof text, "step %lld  loss %.4f  %s", static_cast<long long>(report.step),
                  report.loss, rate_ > 0 ? facts_.speed(rate_).c_str() : "");
    details_ = text;
    if (hooks_.step) hooks_.step(report);
    const bool is_best = is_due(report.step, options_.evaluate_every) && evaluate(report.step);
    if (is_due(report.step, options_.sample_every)) write_samples(report.step);
    if (is_best || is_due(report.step, options_.save_every)) save();
  }

  void log(const StepReport& report) {
    rate_ = double(sample() - first_unlogged_) / seconds_;
    const double loss = losses_ / unlogged_;
    begin_interval();
    log_->write(
        report.step,
        {{"loss", loss}, {"lr", report.lr}, {"grad_norm", report.grad_norm}, {"images_per_second", rate_}});
    facts_.measure_peak(trainer_);
  }

  // Whether this step is the best so far.
  bool evaluate(std::int64_t step) {
    if (!hooks_.held_out_loss) return false;
    const double loss = hooks_.held_out_loss();
    log_->write(step, {{"held_out_loss", loss}});
    if (loss >= record_.best_loss) return false;
    record_.best_step = step;
    record_.best_loss = loss;
    return true;
  }

  void write_samples(std::int64_t step) {
    const Image grid =
        sample_grid(trainer_, options_.samples, ddim_of(options_.scheduler, options_.sample_steps));
    write_png(options_.out / "samples" / (checkpoints_.path(step).filename().string() + ".png"), grid);
    log_->write(step, "samples", grid);
  }

  void save() {
    const std::int64_t step = trainer_.position().step;
    checkpoints_.save(step, record_.best_step, [&](const auto& folder) {
      write_training_folder(folder, trainer_, options_.scheduler, record_);
    });
    saved_ = trainer_.position();
    rollbacks_ = 0;
  }

  void restore(std::int64_t step) {
    read_training_folder(checkpoints_.path(step), trainer_, record_);
    saved_ = trainer_.position();
    begin_interval();
  }

  void begin_interval() {
    first_unlogged_ = sample();
    seconds_ = losses_ = 0;
    unlogged_ = 0;
  }

  void report() {
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    Report page{.title = message("Training at step ", trainer_.position().step, " of ", options_.steps)};
    const auto add = [&](const char* name, const char* caption, const LinePlotOptions& plot) {
      if (const auto path = log_->plot(name, plot)) page.figures.push_back({caption, *path});
    };
    const bool is_long = log_->curve("loss").steps.size() > 100;
    add("loss", is_long ? "Training loss, and its running mean" : "Training loss",
        {.title = "training loss", .log_y = true, .smoothing = is_long ? 0.9 : 0.0});
    add("held_out_loss", "Loss of the averaged weights on held-out images",
        {.title = "held-out loss", .log_y = true});
    add("lr", "Learning rate", {.title = "learning rate"});
    for (ReportFigure& figure : some_pictures(options_.out / "samples"))
      page.figures.push_back(std::move(figure));
    ReportTable run{"This run", facts_.rows()};
    run.rows.emplace_back("images seen", message(sample()));
    run.rows.emplace_back("of them since the last start",
                          message(sample() - first_sample_, " in ", ProgressBar::clock(seconds)));
    if (rate_ > 0) run.rows.emplace_back("speed", facts_.speed(rate_));
    if (record_.best_step > 0)
      run.rows.emplace_back("least held-out loss",
                            message(record_.best_loss, " at step ", record_.best_step));
    page.tables.push_back(std::move(run));
    for (auto& table : tables_of(record_.configuration)) page.tables.push_back(std::move(table));
    write_report(options_.out / "report.html", page);
  }

  T& trainer_;
  const RunOptions& options_;
  const RunHooks& hooks_;
  Checkpoints checkpoints_;
  RunRecord record_;
  RunFacts<T> facts_;
  std::optional<MetricsLog> log_;
  TrainerPosition saved_;  // of the last checkpoint
  int rollbacks_ = 0;

  Clock::time_point start_;
  std::uint64_t first_sample_ = 0;
  // Since the last line of the log.
  std::uint64_t first_unlogged_ = 0;
  double seconds_ = 0, losses_ = 0;
  int unlogged_ = 0;
  double rate_ = 0;
  std::string details_;
};

}  // namespace detail

// Trains until `options.steps`, or until SIGINT or SIGTERM, and saves. Returns 0 or 128 plus the signal, for main() to
// return. Throws IoError where the disk is full (the checkpoints are then what they were), NonFiniteError's message as
// Error where the loss is no number, DeviceError where the memory does not suffice.
template <class T>
int train(T& trainer, const RunOptions& options, const RunHooks& hooks = {}) {
  const int signal = detail::TrainingRun<T>(trainer, options, hooks).run();
  return signal == 0 ? 0 : 128 + signal;
}

}  // namespace ddpm::io
