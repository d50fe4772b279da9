// SPDX-License-Identifier: MIT
// What a training run says of itself: its configuration, device, memory and speed, and pictures of its samples.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <zlib.h>

#include <ddpm/core/parallel.hpp>
#include <ddpm/io/checkpoints.hpp>
#include <ddpm/io/detail/json.hpp>
#include <ddpm/io/diffusers_config.hpp>
#include <ddpm/io/image.hpp>
#include <ddpm/io/report.hpp>
#include <ddpm/io/scheduler.hpp>
#include <ddpm/io/scheduler_config.hpp>
#include <ddpm/models/unet.hpp>
#include <ddpm/ops/linear.hpp>
#include <ddpm/train/plan.hpp>
#include <ddpm/train/trainer.hpp>

namespace ddpm::io::detail {

// All that decides the result of a run but its number of steps.
template <class T>
OrderedJson configuration_of(const T& trainer, const SchedulerConfig& scheduler) {
  const TrainerOptions& o = trainer.options();
  OrderedJson json;
  json["model"] = OrderedJson::parse(unet_config_json(trainer.model().config()));
  json["scheduler"] = OrderedJson::parse(scheduler_config_json(scheduler));
  for (const char* part : {"model", "scheduler"}) json[part].erase("_diffusers_version");
  json["training"] = {{"lr", o.lr.peak},
                      {"warmup", o.lr.warmup},
                      {"decay_steps", o.lr.decay_steps},
                      {"last_lr", o.lr.last},
                      {"beta1", o.adamw.beta1},
                      {"beta2", o.adamw.beta2},
                      {"eps", o.adamw.eps},
                      {"weight_decay", o.adamw.weight_decay},
                      {"grad_clip", o.adamw.grad_clip},
                      {"accumulate", o.accumulate},
                      {"ema", o.ema},
                      {"ema_warmup", o.averages.warmup},
                      {"seed", trainer.position().rng.seed}};
  if constexpr (requires {
                  trainer.batches().options().batch;
                  trainer.batches().images().pixels;
                }) {
    const auto& images = trainer.batches().images();
    const auto& loader = trainer.batches().options();
    json["data"] = {{"batch", loader.batch},
                    {"flip", loader.flip},
                    {"images", images.count},
                    {"crc32", ::crc32_z(0, images.pixels.data(), images.pixels.size())}};
  }
  return json;
}

// What is saved with the model must be what it was trained for.
template <class S>
void check_schedule(const S& schedule, const SchedulerConfig& scheduler) {
  const auto saved = schedule_of(scheduler);
  bool same = saved.steps() == schedule.steps();
  for (int t = 0; same && t < schedule.steps(); ++t) same = std::abs(saved.beta(t) - schedule.beta(t)) < 1e-9;
  check<ConfigError>(same, "train: found a scheduler to save (", scheduler.num_train_timesteps, " steps, ",
                     scheduler.beta_schedule, ") that is not the noise schedule in use, expected the same");
}

// A configuration as tables for people.
inline std::vector<ReportTable> tables_of(const OrderedJson& configuration) {
  std::vector<ReportTable> tables;
  for (const auto& [part, entries] : configuration.items()) {
    ReportTable& table = tables.emplace_back(ReportTable{part, {}});
    for (const auto& [key, value] : entries.items())
      table.rows.emplace_back(key, value.is_string() ? value.template get<std::string>() : value.dump());
  }
  return tables;
}

template <Device D>
std::string device_name(const D& device) {
  if constexpr (requires { device.name(); }) return device.name();
  std::ifstream cpus("/proc/cpuinfo");
  std::string name = "unknown processor";
  for (std::string line; std::getline(cpus, line);)
    if (line.starts_with("model name")) {
      name = line.substr(std::min(line.find(": ") + 2, line.size()));
      break;
    }
  return message(name, ", ", ThreadPool::instance().threads(), " threads");
}

// Operations per second of a product of matrices, large enough for any device.
template <class T, Device D>
double matrix_product_rate(const D& device) {
  constexpr std::int64_t rows = 4096, columns = 512;
  const auto x = Tensor<T, D>::zeros(device, {rows, columns});
  const auto weight = Tensor<T, D>::zeros(device, {columns, columns});
  const Tensor<T, D> y(device, {rows, columns});
  device.synchronize();
  const auto start = std::chrono::steady_clock::now();
  linear<T, D>({.x = x, .weight = weight}, y.view());
  device.synchronize();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  return 2.0 * rows * columns * columns / taken.count();
}

template <class T, class D>
TrainingPlan plan_of(const UNet<T, D>& model, const PlanOptions& options) {
  return plan_training(model.device(), options,
                       [&](const DryRun<D>& device) { return UNet<T, DryRun<D>>(device, model.config()); });
}

// The device, the memory and the speed of a run.
template <class T>
class RunFacts {
 public:
  explicit RunFacts(const T& trainer)
      : device_(device_name(trainer.model().device())), batch_(batch_of(trainer)) {
    const UNetConfig& config = trainer.model().config();
    check<ConfigError>(config.height > 0 && config.width > 0,
                       "train: found a model for images of any size, expected one whose configuration says "
                       "the height and the width");
    plan_ = plan_of(trainer.model(), {.batch = {batch_, config.height, config.width, config.in_channels},
                                      .averages = static_cast<int>(trainer.averages().size()),
                                      .recompute = trainer.diffusion().options().recompute});
    trainer.model().visit("",
                          [this](const std::string&, const auto& p) { parameters_ += p.shape().numel(); });
  }

  std::string plan_line() const {
    return message("plan: ", parameters_, " parameters; weights ", in_megabytes(plan_.weights),
                   ", gradients ", in_megabytes(plan_.gradients), ", moments ", in_megabytes(plan_.moments),
                   ", averages ", in_megabytes(plan_.averages), ", activations ",
                   in_megabytes(plan_.activations), ", workspace ", in_megabytes(plan_.workspace), "; ",
                   in_megabytes(plan_.total), " in all for batches of ", batch_);
  }

  void check_memory() const {
    using D = std::remove_cvref_t<decltype(std::declval<T>().model().device())>;
    if (D::is_gpu) return;
    const std::int64_t machine = std::int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
    check<ConfigError>(plan_.total < machine, out_of_memory(), " (this machine has ", in_megabytes(machine),
                       ")");
  }
  std::string out_of_memory() const {
    return message("train: found too little memory for batches of ", batch_, " images, which take ",
                   in_megabytes(plan_.total), ", ", in_megabytes(plan_.activations),
                   " of it for activations; expected a smaller batch (with more of them accumulated), or "
                   "DiffusionOptions::recompute");
  }

  // Measures what the device can do. Where others use it too that varies, so the most of several counts.
  void measure_peak(const T& trainer) {
    using Element = typename std::remove_cvref_t<decltype(trainer.model())>::value_type;
    peak_ = std::max(peak_, matrix_product_rate<Element>(trainer.model().device()));
  }
  // 229 -> "229 images/s, 87 GFLOP/s (49 % of a matrix product)"
  std::string speed(double images_per_second) const {
    const double rate = images_per_second * double(plan_.flops) / double(batch_);
    char text[96];
    std::snprintf(text, sizeof text, "%.4g images/s, %.3g GFLOP/s (%.0f %% of a matrix product)",
                  images_per_second, rate / 1e9, 100 * rate / peak_);
    return text;
  }

  std::vector<std::pair<std::string, std::string>> rows() const {
    return {{"device", device_},
            {"parameters", message(parameters_)},
            {"memory planned", in_megabytes(plan_.total)},
            {"memory of activations", in_megabytes(plan_.activations)},
            {"operations in a batch", message(double(plan_.flops) / 1e9, " GFLOP")}};
  }

 private:
  static std::int64_t batch_of(const T& trainer) {
    if constexpr (requires { trainer.batches().options().batch; })
      return trainer.batches().options().batch;
    else
      return 1;
  }

  std::string device_;
  std::int64_t batch_;
  std::int64_t parameters_ = 0;
  TrainingPlan plan_;
  double peak_ = 0;
};

// Images from the weights to sample with. The noise is the same every time, so that pictures of several steps compare;
// classes take turns.
template <class T>
Image sample_grid(const T& trainer, int count, const Ddim& sampler) {
  using M = std::remove_cvref_t<decltype(trainer.model())>;
  using D = typename M::device_type;
  const UNetConfig& config = trainer.model().config();
  const D& device = trainer.model().device();
  Tensor<std::int32_t, D> labels;
  if (config.num_class_embeds > 0) {
    std::vector<std::int32_t> classes;
    for (int i = 0; i < count; ++i) classes.push_back(i % config.num_class_embeds);
    labels = Tensor<std::int32_t, D>(device, {count}, classes);
  }
  Rng rng{trainer.position().rng.seed};
  const auto samples = trainer.diffusion()
                           .with(trainer.best_model())
                           .sample(
                               {count, config.height, config.width, config.in_channels}, rng, sampler,
                               [](const auto&) {}, labels);
  const auto values = samples.to_host();
  return make_grid(std::vector<float>(values.begin(), values.end()), samples.shape());
}

// The pictures step-*.png of a folder, up to four, first and last among them.
inline std::vector<ReportFigure> some_pictures(const std::filesystem::path& folder) {
  std::map<std::int64_t, std::filesystem::path> all;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (const auto step = Checkpoints::step_of(entry.path().stem().string())) all[*step] = entry.path();
  const std::size_t most = std::min<std::size_t>(all.size(), 4);
  std::vector<ReportFigure> some;
  std::size_t place = 0;
  for (const auto& [step, path] : all)
    if (place++ * (most - 1) >= some.size() * (all.size() - 1))
      some.push_back({message("Samples at step ", step), path, true});
  return some;
}

}  // namespace ddpm::io::detail
