// SPDX-License-Identifier: MIT
// AdamW against a plain loop, and learning rate schedules.

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <ddpm/ddpm.hpp>

#include "catch_shim.hpp"
#include "train/toy_model.hpp"

using namespace ddpm;
using namespace train_support;

namespace {

// torch.optim.AdamW after torch.nn.utils.clip_grad_norm_.
struct PlainAdamW {
  AdamWOptions o;
  std::vector<double> value, first, second;
  int steps = 0;
  double norm = 0;

  explicit PlainAdamW(const AdamWOptions& options, std::vector<double> start)
      : o(options), value(std::move(start)), first(value.size()), second(value.size()) {}

  void step(const std::vector<double>& gradient) {
    ++steps;
    norm = 0;
    for (const double g : gradient) norm += g * g;
    norm = std::sqrt(norm);
    const double clip = o.grad_clip > 0 && o.grad_clip < norm + 1e-6 ? o.grad_clip / (norm + 1e-6) : 1;
    for (std::size_t i = 0; i < value.size(); ++i) {
      const double g = clip * gradient[i];
      value[i] *= 1 - o.lr * o.weight_decay;
      first[i] = o.beta1 * first[i] + (1 - o.beta1) * g;
      second[i] = o.beta2 * second[i] + (1 - o.beta2) * g * g;
      const double mean = first[i] / (1 - std::pow(o.beta1, steps)),
                   square = second[i] / (1 - std::pow(o.beta2, steps));
      value[i] -= o.lr * mean / (std::sqrt(square) + o.eps);
    }
  }
};

template <class T>
std::vector<double> doubles(const std::vector<T>& v) {
  return {v.begin(), v.end()};
}

double worst(const std::vector<double>& a, const std::vector<double>& b) {
  double most = a.size() == b.size() ? 0 : 1e300;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

template <class T, class D>
void check_optimizer(const D& device, const AdamWOptions& options, double tolerance) {
  ToyModel<T, D> model(device, 301);
  fill(model.parameters().values(), 1, 1);
  AdamW optimizer{model, options};
  PlainAdamW plain(options, doubles(model.parameters().values().to_host()));
  for (unsigned step = 1; step <= 6; ++step) {
    // Small and large gradients: of global norm below and above the clip.
    fill(model.parameters().gradients(), step, step % 2 == 0 ? 2.0 : 0.01);
    const auto gradient = doubles(model.parameters().gradients().to_host());
    const auto version = model.parameters().storage()->version;
    optimizer.step();
    plain.step(gradient);
    CHECK(worst(doubles(model.parameters().values().to_host()), plain.value) < tolerance);
    CHECK(worst(doubles(optimizer.first().to_host()), plain.first) < tolerance);
    CHECK(worst(doubles(optimizer.second().to_host()), plain.second) < tolerance);
    CHECK(worst(doubles(model.parameters().gradients().to_host()), std::vector<double>(gradient.size())) ==
          0);
    if (options.grad_clip > 0)
      CHECK(static_cast<double>(optimizer.grad_norm()) == Approx(plain.norm).epsilon(tolerance));
    CHECK(model.parameters().storage()->version != version);
  }
  CHECK(optimizer.steps() == 6);
}

}  // namespace

TEST_CASE("AdamW leaves the weights as their type rounds them", "[optimizer]") {
  UNetConfig config;
  config.block_out_channels = {8};
  config.down_blocks = {DownBlock::plain};
  config.up_blocks = {UpBlock::plain};
  config.norm_num_groups = 2;
  UNet<bf16, Cpu> model(Cpu{}, config, Rng{1});
  AdamW optimizer{model, {.lr = 0.1}};
  const auto check_rounded = [&] {
    std::vector<float> expected;
    for (const float value : model.parameters().values().to_host())
      expected.push_back(static_cast<float>(bf16(value)));
    std::vector<float> found;
    for (const bf16 value : model.parameters().storage()->rounded().to_host())
      found.push_back(static_cast<float>(value));
    CHECK(found == expected);
  };
  check_rounded();
  for (unsigned step = 1; step <= 2; ++step) {
    fill(model.parameters().gradients(), step, 1);
    optimizer.step();
    check_rounded();
  }
  fill(model.parameters().values(), 3, 1);
  model.parameters().changed();
  check_rounded();
}

TEST_CASE("AdamW against a plain loop", "[optimizer]") {
  for (const double weight_decay : {0.0, 0.3})
    for (const double grad_clip : {0.0, 1.0}) {
      const AdamWOptions options{.lr = 0.02,
                                 .beta1 = 0.8,
                                 .beta2 = 0.95,
                                 .eps = 1e-6,
                                 .weight_decay = weight_decay,
                                 .grad_clip = grad_clip};
      INFO("weight decay " << weight_decay << ", clip " << grad_clip);
      check_optimizer<double>(Reference{}, options, 1e-12);
      check_optimizer<float>(Reference{}, options, 2e-6);
      check_optimizer<float>(Cpu{}, options, 2e-6);
    }
}

TEST_CASE("AdamW is continued from its moments and its count of steps", "[optimizer]") {
  const AdamWOptions options{.lr = 0.1, .grad_clip = 1};
  ToyModel<float, Cpu> model(Cpu{}, 5);
  AdamW through{model, options};
  const auto step = [](auto& target, auto& optimizer, unsigned seed) {
    fill(target.parameters().gradients(), seed, 1);
    optimizer.step();
  };
  for (unsigned i = 1; i <= 3; ++i) step(model, through, i);
  ToyModel<float, Cpu> copy = model.clone();
  AdamW continued{copy, options};
  continued.first().copy_from(through.first());
  continued.second().copy_from(through.second());
  continued.set_steps(through.steps());
  for (unsigned i = 4; i <= 6; ++i) {
    step(model, through, i);
    step(copy, continued, i);
  }
  CHECK(copy.parameters().values().to_host() == model.parameters().values().to_host());
}

TEST_CASE("AdamW keeps its model when that moves", "[optimizer]") {
  ToyModel<float, Cpu> model(Cpu{}, 4);
  AdamW optimizer{model, {.lr = 0.5}};
  ToyModel<float, Cpu> moved = std::move(model);
  fill(moved.parameters().gradients(), 1, 1);
  const auto before = moved.parameters().values().to_host();
  optimizer.step();
  CHECK(moved.parameters().values().to_host() != before);
}

TEST_CASE("a learning rate can be changed between steps", "[optimizer]") {
  ToyModel<double, Reference> model(Reference{}, 3);
  AdamW optimizer{model, {.lr = 1}};
  optimizer.options().lr = 0;
  fill(model.parameters().gradients(), 1, 1);
  const auto before = model.parameters().values().to_host();
  optimizer.step();
  CHECK(model.parameters().values().to_host() == before);
}

TEST_CASE("learning rate schedules", "[optimizer]") {
  CHECK(linear_warmup(2, 1, 4) == 0.5);
  CHECK(linear_warmup(2, 3, 4) == 1.5);
  CHECK(linear_warmup(2, 4, 4) == 2);
  CHECK(linear_warmup(2, 100, 4) == 2);
  CHECK(linear_warmup(2, 1, 0) == 2);
  CHECK(cosine_decay(2, 0.5, 0) == Approx(2));
  CHECK(cosine_decay(2, 0.5, 0.5) == Approx(1.25));
  CHECK(cosine_decay(2, 0.5, 1.0 / 3) == Approx(0.5 + 1.5 * 0.75));
  CHECK(cosine_decay(2, 0.5, 1) == Approx(0.5));
  CHECK(cosine_decay(2, 0.5, 1.7) == Approx(0.5));
  CHECK(cosine_decay(2, 0.5, -1) == Approx(2));
}
