// SPDX-License-Identifier: MIT
// plan_training: the memory and the operations of a training step, known before anything is computed.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <ddpm/diffusion/diffusion.hpp>
#include <ddpm/train/dry_run.hpp>
#include <ddpm/train/ema.hpp>
#include <ddpm/train/optimizer.hpp>

namespace ddpm {

struct PlanOptions {
  Shape batch;             // [N, H, W, C]
  int averages = 1;        // of the weights
  bool recompute = false;  // as DiffusionOptions::recompute
};

// Bytes, but for the last line.
struct TrainingPlan {
  std::int64_t weights = 0, gradients = 0;
  std::int64_t moments = 0, averages = 0;
  std::int64_t activations = 0;  // what is kept from forward to backward, and prepared weights
  std::int64_t workspace = 0;    // what comes and goes within a step
  std::int64_t total = 0;        // what the pool of the device takes from the system
  std::int64_t flops = 0;        // of one batch, forward and backward
};

// The plan of a U-Net, say, for a Cpu:
//   plan_training(Cpu{}, {.batch = {128, 32, 32, 3}},
//                 [&](const auto& device) { return UNet<float, DryRun<Cpu>>(device, config); });
template <Device D, class MakeModel>
TrainingPlan plan_training(const D& device, const PlanOptions& options, MakeModel&& make_model) {
  DryRunUsage usage;
  const DryRun<D> dry{&usage, device};
  TrainingPlan plan;
  auto since_last = [&usage, before = std::int64_t{0}]() mutable {
    return usage.bytes_in_use - std::exchange(before, usage.bytes_in_use);
  };
  auto model = make_model(dry);
  using M = decltype(model);
  plan.weights = since_last();
  model.parameters().enable_gradients();
  plan.gradients = since_last();
  std::vector<Ema<M>> averages;
  for (int i = 0; i < options.averages; ++i) averages.emplace_back(model, 0.5);
  plan.averages = since_last();
  AdamW<M> optimizer(model, {.grad_clip = 1});
  plan.moments = since_last();
  Diffusion diffusion{std::move(model), LinearSchedule{}, {.recompute = options.recompute}};
  const Tensor<std::uint8_t, DryRun<D>> pixels(dry, options.batch);
  const Tensor<std::int32_t, DryRun<D>> labels(dry, {options.batch[0]});
  Batch<Accumulator<typename M::value_type>, DryRun<D>> batch{.pixels = pixels};
  if constexpr (requires { diffusion.model().config().num_class_embeds; })
    if (diffusion.model().config().num_class_embeds > 0) batch.labels = labels;
  Rng rng;
  diffusion.train_step(batch, rng);
  plan.activations = since_last();
  plan.flops = usage.flops;
  optimizer.measure_gradients();
  optimizer.step();
  plan.total = usage.bytes_held;
  plan.workspace = plan.total - usage.bytes_in_use;
  return plan;
}

// 1234567 -> "1.2 MB"
inline std::string in_megabytes(std::int64_t bytes) {
  char text[32];
  const double megabytes = static_cast<double>(bytes) / 1e6;
  std::snprintf(text, sizeof text, megabytes < 1000 ? "%.1f MB" : "%.2f GB",
                megabytes < 1000 ? megabytes : megabytes / 1000);
  return text;
}

}  // namespace ddpm
