// SPDX-License-Identifier: MIT
#include <ddpm/ops/cpu/adamw.hpp>
#include <ddpm/ops/cpu/bf16.hpp>
#include <ddpm/ops/reference/adamw.hpp>
#include <ddpm/ops/reference/embedding.hpp>
#include <ddpm/ops/reference/loss.hpp>
#include <ddpm/ops/reference/noising.hpp>
#include <ddpm/ops/reference/reduce.hpp>

#include <bit>

#include "cpu_support.hpp"

using namespace ddpm;
using namespace cpu_support;

TEST_CASE("cpu: squared_norm", "[cpu][reduce]") {
  for (const std::size_t count : {0u, 1u, 15u, 64u, 1009u, 4096u, 100003u}) {
    const Floats x = uniform(count, 1);
    check_against_reference(message("squared_norm of ", count), [&](const auto& device) {
      Outputs out{Floats(1)};
      launch(device, SquaredNorm<float>{x.data(), out[0].data(), static_cast<std::int64_t>(count)});
      return out;
    });
  }
}

TEMPLATE_TEST_CASE("cpu: mse_loss, weighted or not, with a gradient or not", "[cpu][loss]", float, bf16) {
  using T = TestType;
  const double rounding = std::is_same_v<T, bf16> ? 0x1p-8 : 0;  // of the gradient, to either neighbour
  const std::pair<int, int> shapes[] = {{1, 1}, {3, 5}, {2, 4096}, {4, 5003}, {130, 17}};
  for (const auto& [n, per_sample] : shapes) {
    const auto count = static_cast<std::size_t>(n) * static_cast<std::size_t>(per_sample);
    const std::vector<T> x = rounded<T>(uniform(count, 1));
    const Floats y = uniform(count, 2), weight = uniform(static_cast<std::size_t>(n), 3, 0, 2);
    Outputs gradients;
    const auto losses = [&, n = n, per_sample = per_sample](const auto& device) {
      Outputs out{Floats(1), Floats(1), Floats(1)};
      std::vector<T> gradient(count), in_place = x;
      launch(device, MseLoss<T>{x.data(), y.data(), nullptr, out[0].data(), gradient.data(), n, per_sample});
      launch(device, MseLoss<T>{x.data(), y.data(), weight.data(), out[1].data(), nullptr, n, per_sample});
      launch(device, MseLoss<T>{in_place.data(), y.data(), weight.data(), out[2].data(), in_place.data(), n,
                                per_sample});
      gradients = {{gradient.begin(), gradient.end()}, {in_place.begin(), in_place.end()}};
      return out;
    };
    const std::string name = message("mse_loss of ", n, " x ", per_sample);
    check_against_reference(name, losses);
    check_against_reference(
        name,
        [&](const auto& device) {
          losses(device);
          return gradients;
        },
        1e-5 + rounding);
  }
}

TEMPLATE_TEST_CASE("a loss without a target draws the noise again, bit for bit", "[cpu][loss]",
                   (std::pair<float, Cpu>), (std::pair<float, Reference>), (std::pair<bf16, Cpu>),
                   (std::pair<bf16, Reference>)) {
  using T = typename TestType::first_type;
  using D = typename TestType::second_type;
  const D device{};
  for (const Shape& shape :
       {Shape{1, 1, 1, 1}, {3, 5, 5, 3}, {2, 64, 33, 3}}) {  // of the last, 6336 elements
    const auto count = static_cast<std::size_t>(shape.numel());
    Floats x0 = uniform(count, 3), xt(count), target(count), weight = uniform(3, 2), level{1};
    Floats loss(1), loss_again(1);
    std::vector<T> prediction = rounded<T>(uniform(count, 1)), gradient(count), gradient_again(count);
    std::vector<std::int32_t> t(3);
    const auto view = [&](auto& values) { return TensorView(device, values.data(), shape); };
    const auto row = [&](auto& values, std::int64_t size) {
      return TensorView(device, values.data(), {size});
    };
    const RandomPosition position{7, 11, 0, RandomStream::forward_noise};
    add_noise<T, D>({.x0 = view(x0), .t = row(t, shape[0]), .signal = row(level, 1), .sigma = row(level, 1)},
                    {.position = position}, view(xt), view(target));
    const auto weights = row(weight, shape[0]);
    mse_loss<T, D>({view(prediction), view(target), weights}, row(loss, 1), view(gradient));
    mse_loss<T, D>({view(prediction), {}, weights, position}, row(loss_again, 1), view(gradient_again));
    CHECK(loss == loss_again);
    CHECK(gradient == gradient_again);
    const MseLossOperands<T, D> nothing{view(prediction), {}};
    CHECK_THROWS_AS(mse_loss(nothing, row(loss, 1), {}), ConfigError);
  }
}

TEST_CASE("cpu: adamw, with and without clipping and averaging, and ema", "[cpu][adamw]") {
  for (const std::size_t count : {1u, 16u, 103u, 40009u}) {
    const Floats value = uniform(count, 1), gradient = uniform(count, 2, -5, 5), first = uniform(count, 3);
    const Floats second = uniform(count, 4, 0, 1), average = uniform(count, 5),
                 norm{static_cast<float>(count) * 8};
    const auto size = static_cast<std::int64_t>(count);
    check_against_reference(message("adamw of ", count), [&](const auto& device) {
      Outputs out{value, first, second, average, value, Floats(count), Floats(count), average};
      AdamWOptions options{.lr = 1e-2, .weight_decay = 0.1, .grad_clip = 1};
      const AdamWStep second_step = adamw_step(options, 2, 0.99), first_step = adamw_step(options, 1);
      launch(device, AdamWUpdate<float>{out[0].data(), gradient.data(), out[1].data(), out[2].data(),
                                        out[3].data(), nullptr, norm.data(), &second_step, options, size});
      launch(device, AdamWUpdate<float>{out[4].data(), gradient.data(), out[5].data(), out[6].data(), nullptr,
                                        nullptr, nullptr, &first_step, options, size});
      const double decay = 0.9999;
      launch(device, EmaUpdate<float>{value.data(), out[7].data(), &decay, size});
      return out;
    });
  }
}

TEST_CASE("cpu: adamw leaves the padding of a flat buffer zero", "[cpu][adamw]") {
  Floats zero(100), first(100), second(100), average(100), gradient(100);
  const AdamWOptions options{.weight_decay = 0.1};
  const AdamWStep step = adamw_step(options, 1, 0.9);
  for (const auto isa : isas()) {
    const Restore restore;
    ddpm::detail::cpu::pin_isa(isa);
    launch(Cpu{}, AdamWUpdate<float>{zero.data(), gradient.data(), first.data(), second.data(),
                                     average.data(), nullptr, nullptr, &step, options, 100});
    CHECK(zero == Floats(100));
    CHECK(second == Floats(100));
    CHECK(average == Floats(100));
  }
}

TEST_CASE("adamw rounds the bf16 copy of the weights to nearest even", "[cpu][adamw]") {
  // lr = 0 keeps the weights: halfway above an even and above an odd bf16, and as near to that as a float is.
  const std::vector<std::uint32_t> weight{0x3f808000, 0x3f818000, 0x3f808001,
                                          0x3f817fff, 0xbf818000, 0x7f7fffff};
  const std::vector<std::uint16_t> expected{0x3f80, 0x3f82, 0x3f81, 0x3f81, 0xbf82, 0x7f80};
  constexpr std::size_t count = 40009;
  Floats value(count), gradient = uniform(count, 1), first(count), second(count);
  for (std::size_t i = 0; i < count; ++i) value[i] = std::bit_cast<float>(weight[i % weight.size()]);
  const AdamWStep step = adamw_step({.lr = 0}, 1);
  const auto check_copy = [&](const auto& device) {
    std::vector<bf16> copy(count);
    launch(device, AdamWUpdate<float>{value.data(),
                                      gradient.data(),
                                      first.data(),
                                      second.data(),
                                      nullptr,
                                      copy.data(),
                                      nullptr,
                                      &step,
                                      {.lr = 0},
                                      count});
    for (std::size_t i = 0; i < count; ++i) REQUIRE(copy[i].bits == expected[i % expected.size()]);
  };
  check_copy(Cpu{});
  check_copy(Reference{});
}

TEST_CASE("cpu: embeddings of time steps and classes", "[cpu][embedding]") {
  struct Extent {
    int n, dim;
  };
  for (const Extent& e : {Extent{1, 4}, {3, 7}, {5, 64}, {130, 33}}) {
    std::vector<std::int32_t> t, label;
    for (int n = 0; n < e.n; ++n) {
      t.push_back(n * 997 % 1000);
      label.push_back(n * 7 % 5);
    }
    const auto count = static_cast<std::size_t>(e.n * e.dim);
    const Floats table = uniform(static_cast<std::size_t>(5 * e.dim), 1), y = uniform(count, 2);
    check_against_reference(message("embedding of ", Shape{e.n, e.dim}), [&](const auto& device) {
      Outputs out{Floats(count), Floats(count), y, table};
      launch(device, TimestepEmbedding<float>{t.data(), out[0].data(), e.n, e.dim, false, 1});
      launch(device, TimestepEmbedding<float>{t.data(), out[1].data(), e.n, e.dim, true, 0});
      launch(device, ClassEmbedding<float>{table.data(), label.data(), out[2].data(), e.n, e.dim});
      launch(device, ClassEmbeddingBackward<float>{y.data(), label.data(), out[3].data(), e.n, e.dim});
      return out;
    });
  }
}
