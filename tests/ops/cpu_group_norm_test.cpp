// SPDX-License-Identifier: MIT
#include <ddpm/ops/cpu/group_norm.hpp>
#include <ddpm/ops/reference/group_norm.hpp>

#include "cpu_support.hpp"

using namespace ddpm;
using namespace cpu_support;

namespace {

struct Case {
  GroupNormGeometry shape;
  Activation activation = Activation::silu;
  bool scale_shift = false;
  bool add = false;       // to dx
  bool also = false;      // to dx too
  bool in_place = false;  // add is dx; so is also, where that is given without add
  float mean = 0;         // of x; its standard deviation is about 0.6
};

std::string name(const Case& c) {
  return message("[", c.shape.n, ", ", c.shape.hw, ", ", c.shape.c, " + ", c.shape.c2, "] in ",
                 c.shape.groups, " groups", c.activation == Activation::silu ? ", silu" : "",
                 c.scale_shift ? ", scaled" : "", c.add ? ", added" : "", c.also ? ", also" : "",
                 c.in_place ? " in place" : "", ", mean ", c.mean);
}

struct Data {
  Floats x, x2, gamma, beta, scale_shift, dy, add, add2, also;

  explicit Data(const Case& c) {
    const GroupNormGeometry& s = c.shape;
    const auto pixels = static_cast<std::size_t>(s.n) * static_cast<std::size_t>(s.hw);
    const auto c1 = static_cast<std::size_t>(s.c), c2 = static_cast<std::size_t>(s.c2);
    x = uniform(pixels * c1, 1, c.mean - 1, c.mean + 1);
    x2 = uniform(pixels * c2, 2, c.mean - 1, c.mean + 1);
    gamma = uniform(c1 + c2, 3, 0.5f, 1.5f);
    beta = uniform(c1 + c2, 4);
    scale_shift = uniform(c.scale_shift ? static_cast<std::size_t>(s.n) * 2 * (c1 + c2) : 0, 5);
    dy = uniform(pixels * (c1 + c2), 6);
    add = uniform(pixels * c1, 7);
    add2 = uniform(pixels * c2, 8);
    also = uniform(pixels * c1, 9);
  }
};

const float* or_null(const Floats& v) { return v.empty() ? nullptr : v.data(); }

void check_case(const Case& c) {
  const Data in(c);
  const std::size_t groups = static_cast<std::size_t>(c.shape.n) * static_cast<std::size_t>(c.shape.groups);
  const auto samples = static_cast<std::size_t>(c.shape.n);
  const double tolerance = std::abs(c.mean) > 4 * 0.58f ? 2e-5 : 1e-5;
  Floats mean(groups), rstd(groups);
  check_against_reference(
      "forward " + name(c),
      [&](const auto& device) {
        Outputs out{Floats(in.dy.size()), Floats(groups), Floats(groups)};
        launch(device, GroupNormForward<float>{c.shape, in.x.data(), or_null(in.x2), in.gamma.data(),
                                               in.beta.data(), or_null(in.scale_shift), 1e-5f, c.activation,
                                               out[0].data(), out[1].data(), out[2].data()});
        mean = out[1];
        rstd = out[2];
        return out;
      },
      tolerance);
  check_against_reference("backward " + name(c), [&](const auto& device) {
    // dgamma and dbeta are added to, dx may be what is added
    Outputs out{c.in_place ? in.add : Floats(in.x.size()), c.in_place ? in.add2 : Floats(in.x2.size()),
                in.gamma, in.beta, Floats(in.scale_shift.size()),
                // of groups that are a channel the sums are nothing but rounding
                Floats(c.shape.channels() > c.shape.groups ? samples * in.gamma.size() : 0)};
    const bool two = c.shape.c2 > 0;
    const float* add = c.in_place ? out[0].data() : c.add ? in.add.data() : nullptr;
    const float* also = !c.also ? nullptr : c.in_place && !c.add ? out[0].data() : in.also.data();
    if (also == out[0].data()) add = nullptr;
    const float* add2 = !two ? nullptr : c.in_place ? out[1].data() : c.add ? in.add2.data() : nullptr;
    launch(device,
           GroupNormBackward<float>{c.shape, in.dy.data(), in.x.data(), or_null(in.x2), in.gamma.data(),
                                    in.beta.data(), or_null(in.scale_shift), mean.data(), rstd.data(),
                                    c.activation, add, add2, out[0].data(), two ? out[1].data() : nullptr,
                                    out[2].data(), out[3].data(), c.scale_shift ? out[4].data() : nullptr,
                                    add || also || out[5].empty() ? nullptr : out[5].data(), also});
    return out;
  });
}

}  // namespace

TEST_CASE("cpu: group_norm of shapes great and small", "[cpu][group_norm]") {
  for (const Activation activation : {Activation::none, Activation::silu})
    for (const GroupNormGeometry& shape : {GroupNormGeometry{1, 1, 4, 0, 1},
                                           {2, 1, 7, 0, 1},
                                           {1, 3, 1, 0, 1},
                                           {3, 17, 5, 0, 5},
                                           {2, 49, 6, 0, 2},
                                           {2, 33, 32, 0, 32},
                                           {3, 64, 64, 0, 32},
                                           {1, 64, 96, 0, 32},
                                           {2, 37, 130, 0, 13},
                                           {1, 1024, 128, 0, 32},
                                           {17, 9, 48, 0, 4}})
      check_case({.shape = shape, .activation = activation});
}

TEST_CASE("cpu: group_norm of two tensors, whose border may cut a group", "[cpu][group_norm]") {
  for (const GroupNormGeometry& shape : {GroupNormGeometry{2, 5, 3, 5, 2},
                                         {1, 1, 1, 1, 1},
                                         {2, 16, 64, 32, 32},
                                         {1, 25, 24, 40, 32},
                                         {3, 7, 17, 13, 3},
                                         {1, 256, 96, 64, 32}})
    for (const bool in_place : {false, true})
      for (const bool also : {false, true})
        check_case({.shape = shape, .scale_shift = true, .add = true, .also = also, .in_place = in_place});
}

TEST_CASE("cpu: group_norm with a scale and shift, and a gradient to add", "[cpu][group_norm]") {
  for (const Activation activation : {Activation::none, Activation::silu}) {
    check_case({.shape = {2, 30, 24, 0, 4}, .activation = activation, .scale_shift = true});
    check_case({.shape = {2, 30, 24, 0, 4}, .activation = activation, .add = true});
    check_case({.shape = {2, 30, 24, 0, 4}, .activation = activation, .in_place = true});
    check_case({.shape = {2, 30, 24, 0, 4}, .activation = activation, .also = true});
    check_case({.shape = {2, 30, 24, 0, 4}, .activation = activation, .also = true, .in_place = true});
  }
}

TEST_CASE("cpu: group_norm of a mean far above the standard deviation", "[cpu][group_norm]") {
  for (const float mean : {3.0f, -10.0f, 60.0f}) check_case({.shape = {2, 100, 32, 0, 8}, .mean = mean});
}

TEST_CASE("group_norm_backward: sums of dx exclude gradients to add", "[group_norm]") {
  const Cpu device{};
  const auto tensor = [&](const Shape& shape) { return Tensor<float, Cpu>::zeros(device, shape); };
  const auto x = tensor({1, 1, 2, 4}), gamma = tensor({4}), mean = tensor({1, 2}), sums = tensor({1, 4});
  const auto backward = [&](const GroupNormGradients<float, Cpu>& out) {
    group_norm_backward<float, Cpu>(x, {.x = x, .gamma = gamma, .beta = gamma}, {.groups = 2}, {mean, mean},
                                    out);
  };
  backward({.dx = x, .dgamma = gamma, .dbeta = gamma, .dx_sums = sums});
  CHECK_THROWS_AS(backward({.add = x, .dx = x, .dgamma = gamma, .dbeta = gamma, .dx_sums = sums}),
                  ConfigError);
  CHECK_THROWS_AS(backward({.also = x, .dx = x, .dgamma = gamma, .dbeta = gamma, .dx_sums = sums}),
                  ConfigError);
  CHECK_THROWS_AS(backward({.dx = x, .dgamma = gamma, .dbeta = gamma, .dx_sums = gamma}), ShapeError);
}
