// SPDX-License-Identifier: MIT
// Samplers: the constants of diffusers' scheduler tests, plans, and data whose best prediction is known.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <ddpm/core/parallel.hpp>
#include <ddpm/core/torch_generator.hpp>
#include <ddpm/ddpm.hpp>

#include "catch_shim.hpp"
#include "diffusion/diffusion_support.hpp"
#include "nn/gradient_support.hpp"
#include "ops/cpu_support.hpp"

using namespace ddpm;
using namespace diffusion_support;

namespace {

// Between the order of torch, [N, C, H, W], and ours.
template <class T>
std::vector<T> to_channels_last(const std::vector<T>& planes, const Shape& shape) {
  const std::int64_t h = shape[1], w = shape[2], c = shape[3];
  std::vector<T> out(planes.size());
  for (std::int64_t i = 0; i < shape.numel(); ++i) {
    const std::int64_t n = i / (h * w * c), y = i / (w * c) % h, x = i / c % w, channel = i % c;
    out[static_cast<std::size_t>(i)] = planes[static_cast<std::size_t>(((n * c + channel) * h + y) * w + x)];
  }
  return out;
}

// The sample of diffusers' tests: arange(768) as [3, 8, 8, 4], divided by 768, as [4, 3, 8, 8].
template <class T>
std::vector<T> deterministic_sample() {
  std::vector<T> planes;
  for (int n = 0; n < 4; ++n)
    for (int i = 0; i < 192; ++i) planes.push_back(static_cast<T>((i * 4 + n) / 768.0));
  return to_channels_last(planes, {4, 8, 8, 3});
}

// The sum of |x| after a whole sampling with torch's noise of seed 0.
template <class T, class D, class S>
double sum_after(const D& device, const S& sampler, Prediction prediction, double beta_start = 1e-4) {
  const Shape shape{4, 8, 8, 3};
  const auto model = pointwise<T>(device, scaled_by_time);
  const NoiseLevels levels(LinearSchedule{{.beta_start = beta_start}});
  auto sampling = Denoiser(model, levels, {.prediction = prediction}).begin(sampler, shape);
  sampling.x().upload(deterministic_sample<T>());
  TorchCpuGenerator generator(0);
  std::vector<float> drawn(768);
  while (sampling.done() < sampling.steps()) {
    generator.randn(drawn);
    const std::vector<T> noise(drawn.begin(), drawn.end());
    sampling.step({}, Tensor<T, D>(device, shape, to_channels_last(noise, shape)));
  }
  double sum = 0;
  for (const T v : sampling.x().to_host()) sum += std::abs(static_cast<double>(v));
  return sum;
}

template <class T, class D>
void check_constants(const D& device) {
  const auto ddim = Ddim{.steps = 10};
  CHECK(std::abs(sum_after<T>(device, Ancestral{}, Prediction::epsilon) - 258.9606) < 1e-2);
  CHECK(std::abs(sum_after<T>(device, Ancestral{}, Prediction::v) - 202.0296) < 1e-2);
  CHECK(std::abs(sum_after<T>(device, ddim, Prediction::epsilon) - 172.0067) < 1e-2);
  CHECK(std::abs(sum_after<T>(device, ddim, Prediction::v) - 52.5302) < 1e-2);
  CHECK(std::abs(sum_after<T>(device, ddim, Prediction::epsilon, 0.01) - 149.8295) < 1e-2);
  CHECK(std::abs(sum_after<T>(device, Ddim{.steps = 10, .alpha_to_one = false}, Prediction::epsilon, 0.01) -
                 149.0784) < 1e-2);
}

const NoiseLevels& linear_levels() {
  static const NoiseLevels levels{LinearSchedule{}};
  return levels;
}

// One step from x with the model's output m and noise z.
double apply(const DenoisingCoefficients<double>& k, double clip, double x, double m, double z) {
  const double x0 = std::min(std::max(k.x0_from_x * x + k.x0_from_m * m, -clip), clip);
  return k.x_from_x0 * x0 + k.x_from_x * x + k.x_from_m * m + k.sigma * z;
}

struct Moments {
  double mean, variance;
};

// The moments that a sampler without clipping gives exactly for normal data: every step is linear.
template <class S>
Moments exact_moments(const S& sampler, Prediction prediction, const NormalData& data) {
  Moments m{0, 1};
  for (const auto& k : sampler.plan(linear_levels(), prediction)) {
    const auto [slope, offset] = data.line(prediction, linear_levels().at(k.t));
    const double from_x = k.x_from_x0 * k.x0_from_x + k.x_from_x,
                 from_m = k.x_from_x0 * k.x0_from_m + k.x_from_m;
    const double factor = from_x + from_m * slope;
    m = {factor * m.mean + from_m * offset, factor * factor * m.variance + k.sigma * k.sigma};
  }
  return m;
}

template <class S>
void check_normal_data(const std::string& name, const S& sampler, double closeness) {
  const NormalData data{0.3, 0.36};
  for (const Prediction prediction : {Prediction::epsilon, Prediction::sample, Prediction::v}) {
    INFO(name << ", prediction " << static_cast<int>(prediction));
    const auto model = pointwise<float>(Cpu{}, [&](double x, int t) {
      const auto [slope, offset] = data.line(prediction, linear_levels().at(t));
      return slope * x + offset;
    });
    const Diffusion diffusion{model, LinearSchedule{}, {.prediction = prediction}};
    Rng rng{4};
    const auto drawn = diffusion.sample({4, 16, 16, 3}, rng, sampler).to_host();
    const auto count = static_cast<double>(drawn.size());
    double sum = 0, squares = 0;
    for (const float v : drawn) sum += static_cast<double>(v);
    const double mean = sum / count;
    for (const float v : drawn) squares += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean);
    const double variance = squares / count;

    // What the steps make of x_T is close to the data, and the samples are what the steps make.
    const Moments exact = exact_moments(sampler, prediction, data);
    CHECK(std::abs(exact.mean - data.mean) < closeness * std::sqrt(data.variance));
    CHECK(std::abs(exact.variance / data.variance - 1) < closeness);
    CHECK(std::abs(mean - exact.mean) < 4 * std::sqrt(exact.variance / count));
    CHECK(std::abs(variance / exact.variance - 1) < 4 * std::sqrt(2 / count));
  }
}

std::vector<int> visited(int total, int steps, Spacing spacing, int offset = 0) {
  return spaced_timesteps(total, steps, spacing, offset);
}

// Where each step of a plan goes, found from its noise level: -1 for the clean image.
std::vector<int> destinations(const Ddim& sampler) {
  std::vector<int> all;
  for (const auto& k : sampler.plan(linear_levels(), Prediction::epsilon)) {
    int to = -1;
    for (int t = 0; t < 1000; ++t)
      if (std::abs(k.x_from_x0 - linear_levels().signal(t)) < 1e-12) to = t;
    all.push_back(to);
  }
  return all;
}

}  // namespace

TEST_CASE("the constants of diffusers' scheduler tests", "[sampler]") {
  check_constants<double>(Reference{});
  check_constants<float>(Cpu{});
}

TEST_CASE("the normal numbers of torch", "[sampler][torch]") {
  // As torch.manual_seed(0); torch.randn(16) prints them.
  const std::vector<float> sixteen{-1.1258f, -1.1524f, -0.2506f, -0.4339f, 0.8487f, 0.6920f,
                                   -0.3160f, -2.1152f, 0.3223f,  -1.2633f, 0.3500f, 0.3081f,
                                   0.1198f,  1.2377f,  1.1168f,  -0.2473f};
  std::vector<float> drawn(16);
  TorchCpuGenerator(0).randn(drawn);
  for (std::size_t i = 0; i < 16; ++i) CHECK(std::abs(drawn[i] - sixteen[i]) < 6e-5f);

  // Fewer than 16 come from another path: torch.randn(12).
  const std::vector<float> twelve{1.5410f, -0.2934f, -2.1788f, 0.5684f,  -1.0845f, -1.3986f,
                                  0.4033f, 0.8380f,  -0.7193f, -0.4033f, -0.5966f, 0.1820f};
  for (const std::size_t count : {1u, 2u, 5u, 12u}) {
    std::vector<float> few(count);
    TorchCpuGenerator(0).randn(few);
    for (std::size_t i = 0; i < count; ++i) CHECK(std::abs(few[i] - twelve[i]) < 6e-5f);
  }
  // The second of a pair waits for the next call.
  TorchCpuGenerator one_by_one(0);
  for (const float expected : twelve) {
    float value = 0;
    one_by_one.randn({&value, 1});
    CHECK(std::abs(value - expected) < 6e-5f);
  }

  // 20 numbers: four of the first block stay, and the last sixteen are drawn anew, from uniforms 20 to 35.
  std::mt19937 engine(0);
  std::vector<double> uniforms;
  for (int i = 0; i < 36; ++i) uniforms.push_back(static_cast<double>(engine() & 0xffffff) * 0x1p-24);
  std::vector<float> twenty(20);
  TorchCpuGenerator generator(0);
  generator.randn(twenty);
  for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(twenty[i] - sixteen[i]) < 6e-5f);
  for (std::size_t i = 0; i < 8; ++i) {
    const double radius = std::sqrt(-2 * std::log(1 - uniforms[20 + i]));
    const double angle = 2 * std::numbers::pi * uniforms[28 + i];
    CHECK(std::abs(static_cast<double>(twenty[4 + i]) - radius * std::cos(angle)) < 1e-5);
    CHECK(std::abs(static_cast<double>(twenty[12 + i]) - radius * std::sin(angle)) < 1e-5);
  }
  // The next draw goes on behind them.
  std::vector<float> next(16);
  generator.randn(next);
  const double following = static_cast<double>(engine() & 0xffffff) * 0x1p-24;
  for (int i = 0; i < 7; ++i) engine();
  const double partner = static_cast<double>(engine() & 0xffffff) * 0x1p-24;
  CHECK(std::abs(static_cast<double>(next[0]) -
                 std::sqrt(-2 * std::log(1 - following)) * std::cos(2 * std::numbers::pi * partner)) < 1e-5);
}

TEST_CASE("variances of the ancestral steps", "[sampler]") {
  const auto variance = [](Variance kind, int t) {
    const double sigma =
        Ancestral{.variance = kind}.step(linear_levels(), Prediction::epsilon, t, t - 1).sigma;
    return sigma * sigma;
  };
  CHECK(variance(Variance::fixed_small, 0) == 0);
  CHECK(std::abs(variance(Variance::fixed_small, 487) - 0.00979) < 1e-5);
  CHECK(std::abs(variance(Variance::fixed_small, 999) - 0.02) < 1e-5);
  CHECK(variance(Variance::fixed_large, 0) == 0);
  for (const int t : {1, 487, 999})
    CHECK(variance(Variance::fixed_large, t) == Approx(LinearSchedule{}.beta(t)).epsilon(1e-9));
  // The two differ at the end alone.
  CHECK(variance(Variance::fixed_small, 1) < 0.6 * variance(Variance::fixed_large, 1));
}

TEST_CASE("which steps are visited", "[sampler]") {
  using Steps = std::vector<int>;
  CHECK(visited(1000, 10, Spacing::leading) == Steps{900, 800, 700, 600, 500, 400, 300, 200, 100, 0});
  CHECK(visited(1000, 10, Spacing::leading, 1) == Steps{901, 801, 701, 601, 501, 401, 301, 201, 101, 1});
  CHECK(visited(1000, 10, Spacing::trailing) == Steps{999, 899, 799, 699, 599, 499, 399, 299, 199, 99});
  CHECK(visited(1000, 10, Spacing::linspace) == Steps{999, 888, 777, 666, 555, 444, 333, 222, 111, 0});
  // 7 does not divide 1000. Halves are rounded to even, as numpy does: 166.5, 499.5 and 832.5.
  CHECK(visited(1000, 7, Spacing::leading) == Steps{852, 710, 568, 426, 284, 142, 0});
  CHECK(visited(1000, 7, Spacing::trailing) == Steps{999, 856, 713, 570, 428, 285, 142});
  CHECK(visited(1000, 7, Spacing::linspace) == Steps{999, 832, 666, 500, 333, 166, 0});
  const Steps leading = visited(1000, 50, Spacing::leading), trailing = visited(1000, 50, Spacing::trailing);
  for (int i = 0; i < 50; ++i) {
    CHECK(leading[static_cast<std::size_t>(i)] == 980 - 20 * i);
    CHECK(trailing[static_cast<std::size_t>(i)] == 999 - 20 * i);
  }
  CHECK(visited(1000, 50, Spacing::linspace) ==
        Steps{999, 979, 958, 938, 917, 897, 877, 856, 836, 816, 795, 775, 754, 734, 714, 693, 673,
              652, 632, 612, 591, 571, 550, 530, 510, 489, 469, 449, 428, 408, 387, 367, 347, 326,
              306, 285, 265, 245, 224, 204, 183, 163, 143, 122, 102, 82,  61,  41,  20,  0});
  CHECK(visited(1000, 1, Spacing::trailing) == Steps{999});
  CHECK(visited(5, 5, Spacing::linspace) == Steps{4, 3, 2, 1, 0});
  CHECK(visited(5, 5, Spacing::trailing) == Steps{4, 3, 2, 1, 0});
  CHECK_THROWS_AS(visited(10, 11, Spacing::leading), ConfigError);
  CHECK_THROWS_AS(visited(10, 0, Spacing::leading), ConfigError);
  CHECK_THROWS_AS((Ddim{.steps = 10, .offset = -1}.plan(linear_levels(), Prediction::epsilon)), ConfigError);
  CHECK(visited(1000, 10, Spacing::leading, 99).front() == 999);
  try {
    (void)Ddim{.steps = 10, .offset = 100}.plan(linear_levels(), Prediction::epsilon);
    FAIL("an offset past the schedule was accepted");
  } catch (const ConfigError& error) {
    CHECK(std::string(error.what()) ==
          "sampler: an offset of 100 puts 10 steps at time steps 1000 to 100, expected them from 999 to 0");
  }
}

TEST_CASE("where a step goes", "[sampler]") {
  using Steps = std::vector<int>;
  CHECK(destinations({.steps = 5}) == Steps{600, 400, 200, 0, -1});
  CHECK(destinations({.steps = 5, .previous = Previous::diffusers}) == Steps{600, 400, 200, 0, -1});
  CHECK(destinations({.steps = 5, .spacing = Spacing::linspace}) == Steps{749, 500, 250, 0, -1});
  CHECK(destinations({.steps = 5, .spacing = Spacing::linspace, .previous = Previous::diffusers}) ==
        Steps{799, 549, 300, 50, -1});
  CHECK(destinations({.steps = 3, .spacing = Spacing::trailing}) == Steps{666, 332, -1});
  CHECK(destinations({.steps = 3, .spacing = Spacing::trailing, .previous = Previous::diffusers}) ==
        Steps{666, 333, -1});
  CHECK(destinations({.steps = 5, .alpha_to_one = false}) == Steps{600, 400, 200, 0, 0});
}

TEST_CASE("DDIM with eta 1 is the ancestral step of small variance", "[sampler]") {
  for (const Prediction prediction : {Prediction::epsilon, Prediction::sample, Prediction::v})
    for (const Spacing spacing : {Spacing::leading, Spacing::trailing, Spacing::linspace}) {
      const auto ancestral = Ancestral{.steps = 20, .spacing = spacing}.plan(linear_levels(), prediction);
      const auto raw = Ddim{.steps = 20, .eta = 1, .spacing = spacing}.plan(linear_levels(), prediction);
      const auto rederived = Ddim{.steps = 20, .eta = 1, .rederive_eps = true, .spacing = spacing}.plan(
          linear_levels(), prediction);
      REQUIRE(raw.size() == ancestral.size());
      for (std::size_t i = 0; i < raw.size(); ++i) {
        CHECK(raw[i].t == ancestral[i].t);
        CHECK(raw[i].sigma == Approx(ancestral[i].sigma).margin(1e-12));
        for (const double x : {-1.3, 0.4})  // the raw output only where nothing is clipped
          CHECK(apply(raw[i], no_clip, x, 0.7, 0.2) ==
                Approx(apply(ancestral[i], no_clip, x, 0.7, 0.2)).epsilon(1e-9));
        for (const double m : {-2.0, 0.1, 3.0})
          CHECK(std::abs(apply(rederived[i], 1, 0.6, m, 0.2) - apply(ancestral[i], 1, 0.6, m, 0.2)) < 1e-9);
      }
    }
}

TEST_CASE("a DDIM step, by its formula", "[sampler]") {
  const double x = 0.8, m = -0.9, z = 0.35;
  for (const Prediction prediction : {Prediction::epsilon, Prediction::sample, Prediction::v})
    for (const bool rederive : {false, true})
      for (const double eta : {0.0, 0.6}) {
        const int t = 700, to = 600;
        const double a = linear_levels().at(t), b = linear_levels().at(to);
        const double signal = std::sqrt(a), noise = std::sqrt(1 - a);
        double x0 = prediction == Prediction::epsilon  ? (x - noise * m) / signal
                    : prediction == Prediction::sample ? m
                                                       : signal * x - noise * m;
        double eps = prediction == Prediction::epsilon  ? m
                     : prediction == Prediction::sample ? (x - signal * m) / noise
                                                        : signal * m + noise * x;
        x0 = std::min(std::max(x0, -0.5), 0.5);
        if (rederive) eps = (x - signal * x0) / noise;
        const double sigma = eta * std::sqrt((1 - b) / (1 - a) * (1 - a / b));
        const double expected = std::sqrt(b) * x0 + std::sqrt(1 - b - sigma * sigma) * eps + sigma * z;
        const Ddim sampler{.eta = eta, .rederive_eps = rederive};
        CHECK(apply(sampler.step(linear_levels(), prediction, t, to), 0.5, x, m, z) ==
              Approx(expected).epsilon(1e-12));
      }
}

TEST_CASE("the predicted image is clipped where the sampler says so", "[sampler]") {
  const auto model = pointwise<float>(Cpu{}, [](double, int) { return -3.0; });
  const Diffusion diffusion{model, LinearSchedule{}, {.prediction = Prediction::sample}};
  const auto ends_at = [&](const auto& sampler) {
    Rng rng{1};
    const auto images = diffusion.sample({1, 2, 2, 1}, rng, sampler).to_host();
    for (const float v : images) CHECK(v == images.front());
    return images.front();
  };
  CHECK(ends_at(Ddim{.steps = 4}) == Approx(-1));
  CHECK(ends_at(Ddim{.steps = 4, .clip = 2.5}) == Approx(-2.5));
  CHECK(ends_at(Ddim{.steps = 4, .clip = no_clip}) == Approx(-3));
  CHECK(ends_at(Ancestral{.steps = 4}) == Approx(-1));
  CHECK(ends_at(Ancestral{.steps = 4, .clip = no_clip}) == Approx(-3));
}

TEST_CASE("samples of normal data have its mean and variance", "[sampler][moments]") {
  check_normal_data("ancestral", Ancestral{.clip = no_clip}, 0.03);
  check_normal_data("ancestral, large variance",
                    Ancestral{.variance = Variance::fixed_large, .clip = no_clip}, 0.03);
  check_normal_data("DDIM", Ddim{.steps = 200, .clip = no_clip}, 0.03);
  check_normal_data("DDIM with noise",
                    Ddim{.steps = 200, .eta = 0.5, .clip = no_clip, .spacing = Spacing::trailing}, 0.06);
}

TEST_CASE("an image does not depend on its batch or on the number of threads", "[sampler][reproducible]") {
  const cpu_support::Restore restore;
  UNetConfig config;
  config.in_channels = config.out_channels = 3;
  config.block_out_channels = {16, 32};
  config.down_blocks = {DownBlock::plain, DownBlock::attention};
  config.up_blocks = {UpBlock::attention, UpBlock::plain};
  config.layers_per_block = 1;
  config.norm_num_groups = 4;
  UNet<float, Cpu> model(Cpu{}, config);
  gradient_support::randomize(model);
  const Diffusion diffusion{std::move(model), LinearSchedule{}};
  const auto check_sampler = [&](const auto& sampler) {
    ThreadPool::instance().resize(1);
    Rng together{6};
    const auto four = diffusion.sample({4, 16, 12, 3}, together, sampler).to_host();
    for (const float v : four) REQUIRE(std::isfinite(v));
    for (const int threads : {1, 2, 3}) {
      INFO(threads << " threads");
      ThreadPool::instance().resize(threads);
      Rng again{6};
      CHECK(diffusion.sample({4, 16, 12, 3}, again, sampler).to_host() == four);
      for (const int first : {1, 2}) {  // 1 + 3 and 2 + 2 images
        Rng apart{6};
        auto joined = diffusion.sample({first, 16, 12, 3}, apart, sampler).to_host();
        const auto rest = diffusion.sample({4 - first, 16, 12, 3}, apart, sampler).to_host();
        joined.insert(joined.end(), rest.begin(), rest.end());
        CHECK(joined == four);
        CHECK(apart == again);
      }
    }
    Rng another{7};
    CHECK(diffusion.sample({4, 16, 12, 3}, another, sampler).to_host() != four);
  };
  check_sampler(Ancestral{.steps = 6});
  check_sampler(Ddim{.steps = 4, .eta = 0.5});
}

TEST_CASE("a sampling is stepped by hand to its end", "[sampler]") {
  const auto model = pointwise<float>(Cpu{}, scaled_by_time);
  const Diffusion diffusion{model, LinearSchedule{}};
  Rng rng{3};
  std::vector<int> reported;
  const auto images = diffusion.with(diffusion.model())
                          .sample({2, 4, 4, 1}, rng, Ddim{.steps = 3, .eta = 1},
                                  [&](const auto& sampling) { reported.push_back(sampling.done()); });
  CHECK(reported == std::vector<int>{1, 2, 3});
  CHECK(rng.images == 2);

  auto sampling = diffusion.with(diffusion.model()).begin(Ddim{.steps = 3, .eta = 1}, {2, 4, 4, 1});
  RandomPosition position{3, 0, 0, RandomStream::initial_noise};
  fill_normal<float, Cpu>(position, sampling.x());
  position.stream = RandomStream::sampler_noise;
  while (sampling.done() < sampling.steps()) sampling.step(position);
  CHECK(sampling.x().to_host() == images.to_host());
  CHECK_THROWS_AS(sampling.step(position), ConfigError);
}
