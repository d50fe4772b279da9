// SPDX-License-Identifier: MIT
// Dynamic thresholding: its quantile, and whole samplings against the sums of diffusers 0.42.

#include <cmath>
#include <limits>
#include <vector>

#include <ddpm/core/torch_generator.hpp>
#include <ddpm/ddpm.hpp>

#include "catch_shim.hpp"
#include "diffusion/diffusion_support.hpp"

using namespace ddpm;
using namespace diffusion_support;

namespace {

constexpr Shape shape{4, 8, 8, 3};

// Element i of [4, 8, 8, 3] in torch's order [4, 3, 8, 8].
std::size_t torch_index(std::int64_t i) {
  const std::int64_t n = i / 192, y = i / 24 % 8, x = i / 3 % 8, c = i % 3;
  return static_cast<std::size_t>(((n * 3 + c) * 8 + y) * 8 + x);
}

// The sample of diffusers' tests, arange(768) / 768 as [3, 8, 8, 4], image n times (n + 1) / 2.
template <class T>
std::vector<T> start() {
  std::vector<T> values;
  for (std::int64_t i = 0; i < 768; ++i) {
    const auto at = static_cast<std::int64_t>(torch_index(i));
    const std::int64_t n = at / 192;
    values.push_back(
        static_cast<T>(static_cast<double>(at % 192 * 4 + n) / 768 * static_cast<double>(n + 1) / 2));
  }
  return values;
}

// The sum of |x| after sampling with the model -x t / (t + 1) and torch's noise of seed 0.
template <class T, class D, class S>
double sum_after(const D& device, const S& sampler) {
  const auto model = pointwise<T>(device, [](double x, int t) { return -x * t / (t + 1); });
  const NoiseLevels levels(LinearSchedule{});
  auto sampling = Denoiser(model, levels, {}).begin(sampler, shape);
  sampling.x().upload(start<T>());
  TorchCpuGenerator generator(0);
  std::vector<float> drawn(768);
  while (sampling.done() < sampling.steps()) {
    generator.randn(drawn);
    std::vector<T> noise;
    for (std::int64_t i = 0; i < 768; ++i) noise.push_back(static_cast<T>(drawn[torch_index(i)]));
    sampling.step({}, Tensor<T, D>(device, shape, noise));
  }
  double sum = 0;
  for (const T v : sampling.x().to_host()) sum += std::abs(static_cast<double>(v));
  return sum;
}

template <class T, class D>
void check_sums(const D& device) {
  const DynamicThreshold tight{.ratio = 0.9, .largest = 1.5}, wide{.ratio = 0.5, .largest = 100};
  CHECK(std::abs(sum_after<T>(device, Ddim{.steps = 10, .threshold = tight}) - 415.8071) < 1e-2);
  CHECK(std::abs(sum_after<T>(device, Ddim{.steps = 10, .eta = 1, .threshold = tight}) - 389.0439) < 1e-2);
  CHECK(std::abs(sum_after<T>(device, Ddim{.steps = 10, .threshold = wide}) - 516.7537) < 1e-2);
  CHECK(std::abs(sum_after<T>(device, Ancestral{.steps = 20, .threshold = wide}) - 601.3740) < 1e-2);
  CHECK(std::abs(sum_after<T>(device, Ancestral{.steps = 20, .threshold = tight}) - 480.5589) < 1e-2);
  const Ddim first_order_dpm_solver{
      .steps = 7, .rederive_eps = true, .threshold = tight, .spacing = Spacing::trailing};
  CHECK(std::abs(sum_after<T>(device, first_order_dpm_solver) - 764.9240) < 1e-2);
}

double quantile_of(std::vector<double> values, double ratio) { return detail::quantile(values, ratio); }

}  // namespace

TEST_CASE("quantiles are those of torch.quantile", "[threshold]") {
  CHECK(quantile_of({3, 1, 2}, 0.25) == 1.5);
  CHECK(quantile_of({3, 1, 2}, 0.9) == Approx(2.8));
  CHECK(quantile_of({3, 1, 2}, 1) == 3);
  CHECK(quantile_of({3, 1, 2}, 0.5) == 2);
  CHECK(quantile_of({0.5}, 0.3) == 0.5);
  constexpr double infinity = std::numeric_limits<double>::infinity();
  CHECK(quantile_of({1, infinity}, 0) == 1);
  CHECK(quantile_of({infinity, infinity, 1}, 0.75) == infinity);
}

TEST_CASE("the bound lies between 1 and the largest", "[threshold]") {
  const DenoisingCoefficients<double> k{2, -1, 0, 0, 0, 0, 0};
  const auto bound = [&](DynamicThreshold threshold, std::vector<float> x, std::vector<float> m) {
    return detail::dynamic_bound(threshold, k, x, m);
  };
  CHECK(bound({1, 10}, {1, -3}, {0.5f, 1}) == 7);  // |2 x - m| = 1.5, 7
  CHECK(bound({0.5, 10}, {1, -3}, {0.5f, 1}) == 4.25);
  CHECK(bound({1, 5}, {1, -3}, {0.5f, 1}) == 5);
  CHECK(bound({1, 5}, {0.1f, 0}, {0, 0}) == 1);
  CHECK(bound({1, 0.5}, {1, 1}, {0, 0}) == 0.5);  // torch.clamp(s, min=1, max=0.5)
  CHECK(bound({1, 5}, {std::nanf(""), 1}, {0, 0}) == 5);
}

TEST_CASE("thresholded samplings are those of diffusers", "[threshold]") {
  check_sums<double>(Reference{});
  check_sums<float>(Cpu{});
}

TEST_CASE("a thresholded image does not depend on its batch", "[threshold]") {
  const auto model = pointwise<float>(Cpu{}, [](double x, int t) { return std::sin(3 * x) * (t % 7 - 4); });
  const Diffusion diffusion{model, LinearSchedule{}};
  const Ancestral sampler{.steps = 5, .threshold = {.ratio = 0.8, .largest = 20}};
  Rng together{6}, apart{6};
  const auto three = diffusion.sample({3, 4, 4, 2}, together, sampler).to_host();
  auto joined = diffusion.sample({1, 4, 4, 2}, apart, sampler).to_host();
  const auto rest = diffusion.sample({2, 4, 4, 2}, apart, sampler).to_host();
  joined.insert(joined.end(), rest.begin(), rest.end());
  CHECK(joined == three);
  Rng again{6};
  CHECK(diffusion.sample({3, 4, 4, 2}, again, Ancestral{.steps = 5}).to_host() != three);
}
