// SPDX-License-Identifier: MIT
// Schedules against their formulas, the noise levels, and forward noising.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include <ddpm/ddpm.hpp>

#include "catch_shim.hpp"
#include "diffusion/diffusion_support.hpp"
#include "nn/gradient_support.hpp"

using namespace ddpm;
using namespace diffusion_support;

namespace {

// A schedule of a user: two functions.
struct Quadratic {
  int count;
  int steps() const { return count; }
  double beta(int t) const { return 0.3 * (t + 1.0) * (t + 1.0) / (count * count); }
};

struct Constant {
  double value;
  int count;
  int steps() const { return count; }
  double beta(int) const { return value; }
};

}  // namespace

TEST_CASE("the linear schedule of Ho et al.", "[schedule]") {
  const LinearSchedule schedule;
  CHECK(schedule.steps() == 1000);
  CHECK(schedule.beta(0) == 1e-4);
  CHECK(schedule.beta(999) == Approx(0.02).epsilon(1e-14));
  CHECK(schedule.beta(500) == Approx(1e-4 + 0.0199 * 500 / 999).epsilon(1e-14));
  const NoiseLevels levels(schedule);
  CHECK(levels.steps() == 1000);
  CHECK(levels.at(0) == Approx(0.9999).epsilon(1e-14));
  CHECK(levels.at(999) == Approx(4.0358e-5).epsilon(1e-4));
  const auto snr = [&](int t) { return levels.at(t) / (1 - levels.at(t)); };
  CHECK(snr(0) == Approx(9999).epsilon(1e-9));
  CHECK(snr(999) == Approx(4.036e-5).epsilon(1e-3));
  CHECK(snr(129) >= 5);
  CHECK(snr(130) < 5);
  for (const int t : {0, 1, 500, 999})
    CHECK(levels.signal(t) * levels.signal(t) + levels.sigma(t) * levels.sigma(t) ==
          Approx(1).epsilon(1e-14));
  CHECK(LinearSchedule{{.timesteps = 1}}.beta(0) == 1e-4);
}

TEST_CASE("the other schedules", "[schedule]") {
  for (const int t : {0, 1, 10, 37, 99}) {
    const double at = t / 99.0;
    const double root = std::sqrt(0.001) + (std::sqrt(0.2) - std::sqrt(0.001)) * at;
    CHECK(ScaledLinearSchedule{{0.001, 0.2, 100}}.beta(t) == Approx(root * root).epsilon(1e-13));
    CHECK(SigmoidSchedule{{0.001, 0.2, 100}}.beta(t) ==
          Approx(0.199 / (1 + std::exp(6 - 12 * at)) + 0.001).epsilon(1e-13));
  }
  const CosineSchedule cosine;
  const NoiseLevels levels(cosine);
  const auto alpha_bar = [](int i) {
    return std::pow(std::cos((i / 1000.0 + 0.008) / 1.008 * std::numbers::pi / 2), 2);
  };
  // Up to the cap of the last betas the product telescopes.
  for (const int t : {0, 1, 250, 500, 900, 990})
    CHECK(levels.at(t) == Approx(alpha_bar(t + 1) / alpha_bar(0)).epsilon(1e-10));
  CHECK(cosine.beta(999) == 0.999);
  CHECK(cosine.beta(0) == Approx(4.128422e-5).epsilon(1e-5));
  const TabulatedSchedule table{{0.1, 0.2, 0.5}};
  CHECK(table.steps() == 3);
  CHECK(NoiseLevels(table).at(2) == Approx(0.9 * 0.8 * 0.5).epsilon(1e-14));
}

TEST_CASE("a schedule of two functions", "[schedule]") {
  const auto half = pointwise<float>(Cpu{}, [](double x, int) { return x / 2; });
  const Diffusion diffusion{half, Quadratic{20}};
  CHECK(diffusion.levels().steps() == 20);
  CHECK(diffusion.levels().at(1) == Approx((1 - 0.3 / 400) * (1 - 1.2 / 400)).epsilon(1e-14));
  CHECK(diffusion.schedule().count == 20);
  Rng rng{1};
  for (const float v : diffusion.sample({2, 3, 3, 1}, rng, Ancestral{}).to_host()) CHECK(std::abs(v) <= 1);
}

TEST_CASE("a schedule that cannot be is refused", "[schedule]") {
  CHECK_THROWS_AS(NoiseLevels(Constant{1.5, 10}), ConfigError);
  CHECK_THROWS_AS(NoiseLevels(Constant{-0.1, 10}), ConfigError);
  CHECK_THROWS_AS(NoiseLevels(Constant{std::nan(""), 10}), ConfigError);
  CHECK_THROWS_AS(NoiseLevels(Constant{0.1, 0}), ConfigError);
  CHECK(NoiseLevels(Constant{1, 1}).at(0) == 0);
  CHECK_THROWS_AS(NoiseLevels(Constant{1, 2}), ConfigError);  // no signal is left for the steps after it
}

TEST_CASE("rescaling to a terminal signal of zero", "[schedule]") {
  const LinearSchedule linear;
  const NoiseLevels before(linear), after(rescale_zero_terminal_snr(linear));
  CHECK(after.beta.back() == 1);
  CHECK(after.at(999) == 0);
  CHECK(after.at(0) == Approx(before.at(0)).epsilon(1e-12));
  const double s0 = before.signal(0), last = before.signal(999);
  for (const int t : {1, 100, 500, 998})
    CHECK(after.signal(t) == Approx((before.signal(t) - last) * s0 / (s0 - last)).epsilon(1e-9));

  // v and the image can be predicted from pure noise.
  for (const Prediction prediction : {Prediction::v, Prediction::sample}) {
    const auto tenth = pointwise<double>(Reference{}, [](double x, int) { return x / 10; });
    const Diffusion diffusion{tenth, rescale_zero_terminal_snr(linear), {.prediction = prediction}};
    Rng rng{1};
    const auto images = diffusion.sample({1, 2, 2, 1}, rng, Ddim{.steps = 10, .spacing = Spacing::trailing});
    for (const double v : images.to_host()) CHECK(std::abs(v) <= 1);
  }
  // Noise cannot: nothing of the image could be told from it.
  const NoiseLevels rescaled(rescale_zero_terminal_snr(linear));
  const Ddim visits_the_last{.steps = 10, .spacing = Spacing::trailing};
  CHECK_THROWS_AS(visits_the_last.plan(rescaled, Prediction::epsilon), ConfigError);
  CHECK(Ddim{.steps = 10}.plan(rescaled, Prediction::epsilon).size() == 10);
}

TEST_CASE("add_noise is its formula", "[schedule][noising]") {
  const Shape shape{3, 2, 4, 2};
  const std::vector<std::uint8_t> bytes = [&] {
    std::vector<std::uint8_t> all;
    for (int i = 0; i < 48; ++i) all.push_back(static_cast<std::uint8_t>((i * 89 + 3) % 256));
    return all;
  }();
  const std::vector<std::int32_t> steps{0, 321, 999};
  const auto check_device = [&](const auto& device) {
    using D = std::remove_cvref_t<decltype(device)>;
    const Tensor<std::uint8_t, D> pixels(device, shape, bytes);
    const auto images = gradient_support::uniform_tensor<float>(device, shape, 1);
    const auto noise = gradient_support::uniform_tensor<float>(device, shape, 2);
    const Tensor<std::int32_t, D> t(device, {3}, steps);
    for (const Prediction prediction : {Prediction::epsilon, Prediction::sample, Prediction::v})
      for (const bool from_bytes : {false, true}) {
        const Diffusion diffusion{
            pointwise<float>(device, scaled_by_time), LinearSchedule{}, {.prediction = prediction}};
        const Tensor<float, D> xt(device, shape), target(device, shape);
        Batch<float, D> batch;
        if (from_bytes)
          batch.pixels = pixels;
        else
          batch.images = images;
        diffusion.add_noise(batch, t, noise, xt, target);
        for (std::size_t i = 0; i < 48; ++i) {
          const double x0 = from_bytes ? bytes[i] / 127.5 - 1 : static_cast<double>(images.data()[i]);
          const auto eps = static_cast<double>(noise.data()[i]);
          const double signal = diffusion.levels().signal(steps[i / 16]),
                       sigma = diffusion.levels().sigma(steps[i / 16]);
          const double wanted = prediction == Prediction::epsilon  ? eps
                                : prediction == Prediction::sample ? x0
                                                                   : signal * eps - sigma * x0;
          CHECK(std::abs(static_cast<double>(xt.data()[i]) - (signal * x0 + sigma * eps)) < 1e-6);
          CHECK(std::abs(static_cast<double>(target.data()[i]) - wanted) < 1e-6);
        }
      }
  };
  check_device(Cpu{});
  check_device(Reference{});
}

TEST_CASE("the loss of a training step, by hand", "[schedule][training]") {
  const Shape shape{3, 4, 4, 2};
  UNetConfig config;
  config.in_channels = config.out_channels = 2;
  config.block_out_channels = {4};
  config.down_blocks = {DownBlock::plain};
  config.up_blocks = {UpBlock::plain};
  config.layers_per_block = 1;
  config.norm_num_groups = 2;
  config.attention_head_dim.reset();
  std::vector<std::uint8_t> bytes(96);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * 73 % 256);
  const Tensor<std::uint8_t, Reference> pixels(Reference{}, shape, bytes);

  for (const Prediction prediction : {Prediction::epsilon, Prediction::sample, Prediction::v}) {
    UNet<double, Reference> model(Reference{}, config);
    gradient_support::randomize(model);
    Diffusion diffusion{std::move(model), CosineSchedule{}, {.prediction = prediction}};
    const Batch<double, Reference> batch{.pixels = pixels, .flip = true};
    Rng rng{9};
    bool mirrored = false, straight = false;
    for (std::uint64_t step = 0; step < 4; ++step) {
      const RandomPosition position{9, 3 * step, 0, RandomStream::forward_noise};
      std::vector<double> xt(96), target(96);
      std::vector<std::int32_t> t(3);
      for (int n = 0; n < 3; ++n) {
        t[static_cast<std::size_t>(n)] = draw_timestep(position, n, 1000);
        const double signal = diffusion.levels().signal(t[static_cast<std::size_t>(n)]);
        const double sigma = diffusion.levels().sigma(t[static_cast<std::size_t>(n)]);
        const bool flip = draw_flip(position, n);
        (flip ? mirrored : straight) = true;
        RandomPosition at = position;
        at.sample += static_cast<std::uint64_t>(n);
        for (int i = 0; i < 32; ++i) {
          const int row = i / 8, column = i / 2 % 4, channel = i % 2;
          const int from = n * 32 + row * 8 + (flip ? 3 - column : column) * 2 + channel;
          const double x0 = bytes[static_cast<std::size_t>(from)] / 127.5 - 1;
          const auto eps =
              static_cast<double>(normals(random_words(at, static_cast<std::uint32_t>(i / 4))).value[i % 4]);
          const auto to = static_cast<std::size_t>(n * 32 + i);
          xt[to] = signal * x0 + sigma * eps;
          target[to] = prediction == Prediction::epsilon  ? eps
                       : prediction == Prediction::sample ? x0
                                                          : signal * eps - sigma * x0;
        }
      }
      const auto output = diffusion.model()
                              .predict(Tensor<double, Reference>(Reference{}, shape, xt),
                                       Tensor<std::int32_t, Reference>(Reference{}, {3}, t))
                              .to_host();
      double expected = 0;
      for (std::size_t i = 0; i < 96; ++i) expected += (output[i] - target[i]) * (output[i] - target[i]) / 96;
      Rng same = rng;
      CHECK(diffusion.loss(diffusion.model(), batch, same).value() == Approx(expected).epsilon(1e-9));
      CHECK(diffusion.train_step(batch, rng).value() == Approx(expected).epsilon(1e-9));
      CHECK(rng == same);
    }
    CHECK(rng.samples == 12);
    CHECK(mirrored);
    CHECK(straight);
  }
}
