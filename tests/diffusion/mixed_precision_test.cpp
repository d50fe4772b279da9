// SPDX-License-Identifier: MIT
// Diffusion around a model of bf16: what the model reads and writes is rounded, all else is not.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <ddpm/ddpm.hpp>

#include "catch_shim.hpp"
#include "diffusion/diffusion_support.hpp"
#include "nn/gradient_support.hpp"

using namespace ddpm;
using namespace diffusion_support;

namespace {

std::vector<float> as_read_by_model(const std::vector<float>& x) {
  std::vector<float> read;
  for (const float value : x) read.push_back(static_cast<float>(bf16(value)));
  return read;
}

// The root of the mean square of values - mean.
template <class T>
double deviation(const std::vector<T>& values, std::size_t first, std::size_t count, double mean) {
  double sum = 0;
  for (std::size_t i = first; i < first + count; ++i)
    sum += std::pow(static_cast<double>(values[i]) - mean, 2) / static_cast<double>(count);
  return std::sqrt(sum);
}

}  // namespace

TEMPLATE_TEST_CASE("the first ten time steps of the linear schedule add their noise in bf16",
                   "[mixed][noising]", Cpu, Reference) {
  using D = TestType;
  const D device{};
  constexpr std::size_t per_sample = 64 * 64;
  const Shape shape{10, 64, 64, 1};
  const NoiseLevels levels(LinearSchedule{});
  std::vector<std::int32_t> steps;
  std::vector<float> signal, sigma;
  for (int t = 0; t < 10; ++t) {
    steps.push_back(t);
    signal.push_back(static_cast<float>(levels.signal(t)));
    sigma.push_back(static_cast<float>(levels.sigma(t)));
    CHECK(static_cast<float>(bf16(levels.at(t))) == 1);  // what they would come to with tables of bf16
  }
  const auto black = Tensor<std::uint8_t, D>::zeros(device, shape);
  const Tensor<std::int32_t, D> t(device, {10}, steps);
  const Tensor<float, D> signals(device, {10}, signal), sigmas(device, {10}, sigma), xt(device, shape);
  const Tensor<bf16, D> model_input(device, shape);
  add_noise<bf16, D>(
      {.pixels = black, .t = t, .signal = signals, .sigma = sigmas, .model_input = model_input},
      {.position = {3, 0, 0, RandomStream::forward_noise}}, xt, {});
  const auto exact = xt.to_host();
  const auto read = model_input.to_host();
  for (std::size_t n = 0; n < 10; ++n) {
    const double mean = -levels.signal(static_cast<int>(n)), wanted = levels.sigma(static_cast<int>(n));
    CHECK(deviation(exact, n * per_sample, per_sample, mean) == Approx(wanted).epsilon(0.04));
    CHECK(deviation(read, n * per_sample, per_sample, mean) == Approx(wanted).epsilon(0.06));
  }
  CHECK(std::vector<float>(read.begin(), read.end()) == as_read_by_model(exact));
}

TEMPLATE_TEST_CASE("x_t and the target of a model of bf16 are their formulas, in float", "[mixed][noising]",
                   Cpu, Reference) {
  using D = TestType;
  const D device{};
  const Shape shape{3, 4, 4, 2};
  const std::vector<std::int32_t> steps{0, 9, 700};
  const auto x0 = gradient_support::uniform_tensor<float>(device, shape, 1);
  const auto noise = gradient_support::uniform_tensor<float>(device, shape, 2);
  const Tensor<std::int32_t, D> t(device, {3}, steps);
  const Tensor<float, D> xt(device, shape), target(device, shape);
  const Diffusion diffusion{
      pointwise<bf16>(device, scaled_by_time), LinearSchedule{}, {.prediction = Prediction::v}};
  diffusion.add_noise({.images = x0}, t, noise, xt, target);
  for (std::int64_t i = 0; i < shape.numel(); ++i) {
    const int step = steps[static_cast<std::size_t>(i / 32)];
    const double signal = diffusion.levels().signal(step), sigma = diffusion.levels().sigma(step);
    const auto image = static_cast<double>(x0.data()[i]), eps = static_cast<double>(noise.data()[i]);
    CHECK(std::abs(static_cast<double>(xt.data()[i]) - (signal * image + sigma * eps)) < 1e-6);
    CHECK(std::abs(static_cast<double>(target.data()[i]) - (signal * eps - sigma * image)) < 1e-6);
  }
}

TEMPLATE_TEST_CASE("the loss of a model of bf16 is that of its rounded output and the noise itself",
                   "[mixed][training]", Cpu, Reference) {
  using D = TestType;
  const D device{};
  const Shape shape{3, 8, 8, 2};
  const auto x0 = gradient_support::uniform_tensor<float>(device, shape, 1);
  const auto output = [](double x, int t) { return std::sin(3 * x) + t / 1000.0; };
  const auto model = pointwise<bf16>(device, output);
  const Diffusion diffusion{model, LinearSchedule{}};
  Rng rng{9};
  const double loss = static_cast<double>(diffusion.loss(model, {.images = x0}, rng).value());
  double expected = 0;
  for (int n = 0; n < 3; ++n) {
    const RandomPosition position{9, 0, 0, RandomStream::forward_noise};
    const int t = draw_timestep(position, n, 1000);
    RandomPosition at = position;
    at.sample = static_cast<std::uint64_t>(n);
    for (int i = 0; i < 128; ++i) {
      const auto eps =
          static_cast<double>(normals(random_words(at, static_cast<std::uint32_t>(i / 4))).value[i % 4]);
      const double xt = diffusion.levels().signal(t) * static_cast<double>(x0.data()[n * 128 + i]) +
                        diffusion.levels().sigma(t) * eps;
      const auto read = static_cast<double>(bf16(xt));
      expected += std::pow(static_cast<double>(bf16(output(read, t))) - eps, 2) / 384;
    }
  }
  CHECK(loss == Approx(expected).epsilon(1e-6));
}

TEMPLATE_TEST_CASE("a sampling rounds what the model reads, and x nowhere", "[mixed][sampler]", Cpu,
                   Reference) {
  using D = TestType;
  const D device{};
  std::vector<float> read;
  const auto output = [](double x, int t) { return std::sin(3 * x) * (t % 7 - 3); };
  const auto model = pointwise<bf16>(device, [&](double x, int t) {
    read.push_back(static_cast<float>(x));
    return output(x, t);
  });
  const NoiseLevels levels(LinearSchedule{});
  const Denoiser denoiser(model, levels, {});
  const Shape shape{2, 5, 3, 1};
  const auto start = gradient_support::uniform<float>(shape.numel(), 5);
  const auto noise = gradient_support::uniform_tensor<float>(device, shape, 6);
  const auto check_sampler = [&](const auto& sampler, bool is_thresholded) {
    auto sampling = denoiser.begin(sampler, shape);
    sampling.x().upload(start);
    for (const auto& k : sampler.plan(levels, Prediction::epsilon)) {
      const std::vector<float> x = sampling.x().to_host();
      read.clear();
      sampling.step({}, noise);
      const std::vector<float> next = sampling.x().to_host();
      CHECK(read == as_read_by_model(x));
      CHECK(next != as_read_by_model(next));
      if (is_thresholded) continue;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const auto m =
            static_cast<double>(static_cast<bf16>(output(static_cast<double>(static_cast<bf16>(x[i])), k.t)));
        const auto from = static_cast<double>(x[i]);
        const double x0 = std::clamp(k.x0_from_x * from + k.x0_from_m * m, -1.0, 1.0);
        const double wanted = k.x_from_x0 * x0 + k.x_from_x * from + k.x_from_m * m +
                              k.sigma * static_cast<double>(noise.data()[i]);
        CHECK(std::abs(static_cast<double>(next[i]) - wanted) < 1e-5);
      }
    }
  };
  check_sampler(Ancestral{.steps = 4}, false);
  check_sampler(Ddim{.steps = 4, .eta = 0.5}, false);
  check_sampler(Ancestral{.steps = 4, .threshold = {.ratio = 0.8, .largest = 20}}, true);
}
