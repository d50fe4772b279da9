// SPDX-License-Identifier: MIT
// Ema: the average, its warmup, and the update fused into the optimizer.

#include <algorithm>
#include <cmath>
#include <vector>

#include <ddpm/ddpm.hpp>

#include "catch_shim.hpp"
#include "train/toy_model.hpp"

using namespace ddpm;
using namespace train_support;

namespace {

template <class T, class D>
void check_average(const D& device, bool warmup, double tolerance) {
  ToyModel<T, D> model(device, 101);
  fill(model.parameters().values(), 1, 1);
  Ema ema{model, 0.7, {.warmup = warmup}};
  const std::vector<T> start = model.parameters().values().to_host();
  CHECK(ema.model().parameters().values().to_host() == start);
  std::vector<double> expected(start.begin(), start.end());
  for (unsigned n = 0; n < 40; ++n) {
    fill(model.parameters().values(), 10 + n, 1);
    const std::vector<T> value = model.parameters().values().to_host();
    const double decay = warmup ? std::min(0.7, (1.0 + n) / (10.0 + n)) : 0.7;
    const auto version = ema.model().parameters().storage()->version;
    ema.update();
    CHECK(ema.model().parameters().storage()->version != version);
    const std::vector<T> average = ema.model().parameters().values().to_host();
    double worst = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      expected[i] = decay * expected[i] + (1 - decay) * static_cast<double>(value[i]);
      worst = std::max(worst, std::abs(static_cast<double>(average[i]) - expected[i]));
    }
    CHECK(worst < tolerance);
    CHECK(model.parameters().values().to_host() == value);
  }
  CHECK(ema.updates() == 40);
}

// The average is rounded once where it is fused, so the two ways agree to rounding.
template <class T, class D>
void check_fused(const D& device, double tolerance) {
  ToyModel<T, D> one(device, 101), two(device, 101);
  AdamW optimizer_one{one, {.lr = 0.1, .weight_decay = 0.1, .grad_clip = 1}};
  AdamW optimizer_two{two, {.lr = 0.1, .weight_decay = 0.1, .grad_clip = 1}};
  Ema fused{one, 0.9, {.warmup = true}}, apart{two, 0.9, {.warmup = true}};
  for (unsigned i = 1; i <= 20; ++i) {
    fill(one.parameters().gradients(), i, 1);
    fill(two.parameters().gradients(), i, 1);
    optimizer_one.step(fused);
    optimizer_two.step();
    apart.update();
    CHECK(one.parameters().values().to_host() == two.parameters().values().to_host());
    const std::vector<T> a = fused.model().parameters().values().to_host(),
                         b = apart.model().parameters().values().to_host();
    double worst = 0;
    for (std::size_t k = 0; k < a.size(); ++k)
      worst = std::max(worst, std::abs(static_cast<double>(a[k]) - static_cast<double>(b[k])));
    CHECK(worst < tolerance);
  }
  CHECK(fused.updates() == apart.updates());
}

}  // namespace

TEST_CASE("the average of the weights", "[ema]") {
  for (const bool warmup : {false, true}) {
    check_average<double>(Reference{}, warmup, 1e-14);
    check_average<float>(Reference{}, warmup, 1e-6);
    check_average<float>(Cpu{}, warmup, 1e-6);
  }
}

TEST_CASE("the optimizer updates the average in the same pass", "[ema]") {
  check_fused<double>(Reference{}, 1e-14);
  check_fused<float>(Reference{}, 1e-6);
  check_fused<float>(Cpu{}, 1e-6);
}

TEST_CASE("a warmup is continued from its count of updates", "[ema]") {
  ToyModel<float, Cpu> model(Cpu{}, 2);
  Ema ema{model, 0.9999, {.warmup = true}};
  ema.set_updates(90);
  CHECK(ema.next_decay() == Approx(91.0 / 100));
  CHECK(ema.updates() == 91);
}

TEST_CASE("a new average of a U-Net predicts what the U-Net does", "[ema]") {
  UNetConfig config;
  config.block_out_channels = {4};
  config.down_blocks = {DownBlock::plain};
  config.up_blocks = {UpBlock::plain};
  config.norm_num_groups = 2;
  config.attention_head_dim.reset();
  config.layers_per_block = 1;
  UNet<float, Cpu> model(Cpu{}, config, Rng{1});
  Ema ema{model, 0.5};
  fill(model.parameters().values(), 3, 0.3);
  model.parameters().changed();
  const auto x = Tensor<float, Cpu>::zeros(Cpu{}, {1, 4, 4, 3});
  const auto t = Tensor<std::int32_t, Cpu>::zeros(Cpu{}, {1});
  const auto before = ema.model().predict(x, t).to_host();
  for (int i = 0; i < 60; ++i) ema.update();
  const auto after = ema.model().predict(x, t).to_host(), source = model.predict(x, t).to_host();
  CHECK(after != before);
  for (std::size_t i = 0; i < after.size(); ++i) CHECK(std::abs(after[i] - source[i]) < 1e-5f);
}

TEST_CASE("a decay that cannot be is refused", "[ema]") {
  const ToyModel<float, Cpu> model(Cpu{}, 2);
  for (const double decay : {-0.1, 1.0, std::nan("")})
    CHECK_THROWS_AS((Ema<ToyModel<float, Cpu>>(model, decay)), ConfigError);
}
