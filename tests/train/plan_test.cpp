// SPDX-License-Identifier: MIT
// plan_training against what the pool really hands out, and recomputation.

#include <cstdint>
#include <vector>

#include <ddpm/ddpm.hpp>
#include <ddpm/train/plan.hpp>

#include "catch_shim.hpp"
#include "train/tiny_run.hpp"

using namespace ddpm;
using namespace train_support;

namespace {

TrainingPlan plan_for(const UNetConfig& config, const PlanOptions& options) {
  return plan_training(Cpu{}, options,
                       [&](const auto& device) { return UNet<float, DryRun<Cpu>>(device, config); });
}

}  // namespace

TEST_CASE("a plan is what the pool hands out", "[plan]") {
  for (const bool recompute : {false, true}) {
    INFO("recompute " << recompute);
    HostPool::instance().trim();
    const auto before = Cpu{}.memory();
    const TrainingPlan plan =
        plan_for(tiny_config(), {.batch = {4, 4, 4, 1}, .averages = 2, .recompute = recompute});
    REQUIRE(Cpu{}.memory().bytes_held == before.bytes_held);  // planning takes none

    const auto images = tiny_images(4, 1);
    Diffusion diffusion{
        UNet<float, Cpu>(Cpu{}, tiny_config(), Rng{1}), LinearSchedule{}, {.recompute = recompute}};
    const auto in_use = [&] { return Cpu{}.memory().bytes_in_use - before.bytes_in_use; };
    diffusion.model().parameters().enable_gradients();
    std::vector<Ema<UNet<float, Cpu>>> averages;
    for (int i = 0; i < 2; ++i) averages.emplace_back(diffusion.model(), 0.5);
    // Two tables, the loss, and the number of the step's first sample.
    const std::int64_t of_diffusion = 2 * 4032 + 2 * 64;
    CHECK(in_use() == plan.weights + plan.gradients + plan.averages + of_diffusion);
    AdamW optimizer{diffusion.model(), {.grad_clip = 1}};
    CHECK(in_use() == plan.weights + plan.gradients + plan.averages + plan.moments + of_diffusion);
    Loader loader{images, Cpu{}, {.batch = 4, .classes = 3}, Rng{1}};
    Rng rng{1};
    for (int i = 0; i < 3; ++i) {
      diffusion.train_step(loader.next(), rng);
      optimizer.step();
    }
    // The scratch of the backend's own weight gradients comes on top.
    const std::int64_t held = Cpu{}.memory().bytes_held - before.bytes_held;
    CHECK(held >= plan.total);
    CHECK(held - plan.total < 200'000);
  }
}

TEST_CASE("a plan of the CIFAR-10 model", "[plan]") {
  const TrainingPlan plan = plan_for(UNetConfig::cifar10(), {.batch = {128, 32, 32, 3}});
  CHECK(plan.weights / 4 >= 35'746'307);
  CHECK(double(plan.weights) / 4 == Approx(35'746'307).epsilon(0.002));
  CHECK(double(plan.moments) == Approx(2 * double(plan.weights)).epsilon(0.001));
  CHECK(plan.averages == plan.weights + 64);  // its decay
  // 6.22 GMAC an image forward, three times that with the backward pass.
  CHECK(double(plan.flops) == Approx(128 * 3 * 2 * 6.22e9).epsilon(0.02));
  const TrainingPlan lean = plan_for(UNetConfig::cifar10(), {.batch = {128, 32, 32, 3}, .recompute = true});
  CHECK(double(lean.activations) < 0.5 * double(plan.activations));
  CHECK(double(lean.total) < 0.7 * double(plan.total));
  CHECK(lean.flops > plan.flops);
}

TEST_CASE("recomputed blocks give the same bits", "[plan]") {
  const auto gradients = [](bool recompute) {
    Diffusion diffusion{
        UNet<float, Cpu>(Cpu{}, tiny_config(), Rng{5}), LinearSchedule{}, {.recompute = recompute}};
    const auto values = diffusion.model().parameters().values();
    auto shaken = values.to_host();  // last layers begin at nearly zero, which would hide the rest
    for (std::size_t i = 0; i < shaken.size(); ++i) shaken[i] += 0.05f * float(int(i % 7) - 3);
    values.upload(shaken);
    diffusion.model().parameters().changed();
    Loader loader{tiny_images(8, 3), Cpu{}, {.batch = 4, .classes = 3, .flip = true}, Rng{5}};
    Rng rng{5};
    for (int i = 0; i < 2; ++i) diffusion.train_step(loader.next(), rng);
    return diffusion.model().parameters().gradients().to_host();
  };
  const auto kept = gradients(false);
  CHECK(kept == gradients(true));
  CHECK(std::ranges::count_if(kept, [](float g) { return g != 0; }) > 10'000);
}
