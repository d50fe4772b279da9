// SPDX-License-Identifier: MIT
// Every backward pass of Reference against central differences of its forward pass, in double.

#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <ddpm/ops/reference/activation.hpp>
#include <ddpm/ops/reference/attention.hpp>
#include <ddpm/ops/reference/conv2d.hpp>
#include <ddpm/ops/reference/embedding.hpp>
#include <ddpm/ops/reference/group_norm.hpp>
#include <ddpm/ops/reference/linear.hpp>
#include <ddpm/ops/reference/loss.hpp>
#include <ddpm/ops/reference/resample.hpp>

#include "catch_shim.hpp"

using namespace ddpm;

namespace {

using Doubles = std::vector<double>;

Doubles uniform(std::int64_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  Doubles values(static_cast<std::size_t>(count));
  for (double& v : values) v = static_cast<double>(random()) * 0x1p-31 - 1;
  return values;
}

double* or_null(Doubles& v) { return v.empty() ? nullptr : v.data(); }

double dot(const Doubles& a, const Doubles& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// Compares `gradient` with the differences of loss() as elements of x move; of a long x, some 60 elements.
void check_gradient(const std::string& name, Doubles& x, const Doubles& gradient,
                    const std::function<double()>& loss) {
  REQUIRE(x.size() == gradient.size());
  double largest = 0, worst = 0;
  for (const double g : gradient) largest = std::max(largest, std::abs(g));
  for (std::size_t i = 0; i < x.size(); i += 1 + x.size() / 60) {
    const double kept = x[i], h = 1e-5;
    x[i] = kept + h;
    const double above = loss();
    x[i] = kept - h;
    const double below = loss();
    x[i] = kept;
    const double error = std::abs((above - below) / (2 * h) - gradient[i]);
    worst = std::isnan(error) ? error : std::max(worst, error);
  }
  INFO(name << ": off by " << worst << " where the largest gradient is " << largest);
  CHECK(largest > 0);
  CHECK(worst <= 1e-6 * largest);
}

struct ConvCase {
  int n, h, w, c, c2, cout, kernel;
  Conv2dOptions options;
};

Conv2dGeometry geometry(const ConvCase& c) {
  return {c.n,
          c.h,
          c.w,
          c.c,
          c.c2,
          c.cout,
          c.kernel,
          c.options.stride,
          c.options.pad_begin,
          c.options.pad_end,
          c.options.upsample,
          detail::conv2d_extent(c.h, c.kernel, c.options),
          detail::conv2d_extent(c.w, c.kernel, c.options)};
}

void check_conv2d(const std::string& name, const ConvCase& c) {
  const Conv2dGeometry s = geometry(c);
  const std::int64_t pixels = std::int64_t{s.n} * s.h * s.w, outputs = s.pixels() * s.cout;
  Doubles x = uniform(pixels * s.c, 1), x2 = uniform(pixels * s.c2, 2), bias = uniform(s.cout, 3);
  Doubles add = uniform(std::int64_t{s.n} * s.cout, 4), residual = uniform(outputs, 5);
  Doubles weight = uniform(std::int64_t{s.cout} * s.taps() * s.channels(), 6);
  const Doubles dy = uniform(outputs, 7);
  Doubles y(dy.size());
  const auto loss = [&] {
    launch(Reference{}, Conv2dForward<double>{s, x.data(), or_null(x2), weight.data(), nullptr, bias.data(),
                                              add.data(), residual.data(), 1.0, y.data()});
    return dot(y, dy);
  };
  Doubles dx(x.size()), dx2(x2.size()), dweight(weight.size()), dbias(bias.size());
  launch(Reference{},
         Conv2dBackwardData<double>{s, dy.data(), weight.data(), nullptr, dx.data(), or_null(dx2)});
  launch(Reference{},
         Conv2dBackwardWeight<double>{s, x.data(), or_null(x2), dy.data(), dweight.data(), dbias.data()});
  check_gradient(name + " x", x, dx, loss);
  if (s.c2 > 0) check_gradient(name + " x2", x2, dx2, loss);
  check_gradient(name + " weight", weight, dweight, loss);
  check_gradient(name + " bias", bias, dbias, loss);
  check_gradient(name + " residual", residual, dy, loss);
}

struct NormCase {
  GroupNormGeometry shape;
  Activation activation;
  bool scale_shift;
};

void check_group_norm(const std::string& name, const NormCase& c) {
  const GroupNormGeometry& s = c.shape;
  const std::int64_t pixels = std::int64_t{s.n} * s.hw, channels = s.channels();
  Doubles x = uniform(pixels * s.c, 1), x2 = uniform(pixels * s.c2, 2), gamma = uniform(channels, 3);
  Doubles beta = uniform(channels, 4), scale_shift = uniform(c.scale_shift ? s.n * 2 * channels : 0, 5);
  const Doubles dy = uniform(pixels * channels, 6);
  const auto groups = static_cast<std::size_t>(s.n) * static_cast<std::size_t>(s.groups);
  Doubles y(dy.size()), mean(groups), rstd(groups);
  const auto loss = [&] {
    launch(Reference{},
           GroupNormForward<double>{s, x.data(), or_null(x2), gamma.data(), beta.data(), or_null(scale_shift),
                                    1e-5, c.activation, y.data(), mean.data(), rstd.data()});
    return dot(y, dy);
  };
  loss();
  // what is added to dx stands for the gradient of another use of x: here that of sum(x * add)
  const Doubles add = uniform(pixels * s.c, 7), add2 = uniform(pixels * s.c2, 8);
  Doubles dx = add, dx2 = add2, dgamma(gamma.size()), dbeta(beta.size()), dscale_shift(scale_shift.size());
  launch(Reference{},
         GroupNormBackward<double>{s, dy.data(), x.data(), or_null(x2), gamma.data(), beta.data(),
                                   or_null(scale_shift), mean.data(), rstd.data(), c.activation, dx.data(),
                                   or_null(dx2), dx.data(), or_null(dx2), dgamma.data(), dbeta.data(),
                                   or_null(dscale_shift)});
  const auto with_added = [&] { return loss() + dot(x, add) + dot(x2, add2); };
  check_gradient(name + " x", x, dx, with_added);
  if (s.c2 > 0) check_gradient(name + " x2", x2, dx2, with_added);
  check_gradient(name + " gamma", gamma, dgamma, loss);
  check_gradient(name + " beta", beta, dbeta, loss);
  if (c.scale_shift) check_gradient(name + " scale_shift", scale_shift, dscale_shift, loss);
}

// Of what is added to all pixels of x alike.
void check_norm_of_sum(const std::string& name, const NormCase& c) {
  const GroupNormGeometry& s = c.shape;
  const std::int64_t pixels = std::int64_t{s.n} * s.hw, channels = s.channels();
  const Doubles x = uniform(pixels * s.c, 1), x2 = uniform(pixels * s.c2, 2),
                dy = uniform(pixels * channels, 6);
  const Doubles gamma = uniform(channels, 3), beta = uniform(channels, 4);
  Doubles scale_shift = uniform(c.scale_shift ? s.n * 2 * channels : 0, 5),
          added = uniform(s.n * channels, 9);
  Doubles joined = x, joined2 = x2;
  const auto add_to = [&](Doubles& to, int first, int count) {
    for (std::size_t i = 0; i < to.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      const std::int64_t channel = first + at % count, sample = at / count / s.hw;
      to[i] += added[static_cast<std::size_t>(sample * channels + channel)];
    }
  };
  const auto groups = static_cast<std::size_t>(s.n) * static_cast<std::size_t>(s.groups);
  Doubles y(dy.size()), mean(groups), rstd(groups);
  const auto loss = [&] {
    joined = x, joined2 = x2;
    add_to(joined, 0, s.c);
    add_to(joined2, s.c, s.c2);
    launch(Reference{}, GroupNormForward<double>{s, joined.data(), or_null(joined2), gamma.data(),
                                                 beta.data(), or_null(scale_shift), 1e-5, c.activation,
                                                 y.data(), mean.data(), rstd.data()});
    return dot(y, dy);
  };
  loss();
  Doubles dx(x.size()), dx2(x2.size()), dgamma(gamma.size()), dbeta(beta.size()), sums(added.size());
  launch(Reference{}, GroupNormBackward<double>{s, dy.data(), joined.data(), or_null(joined2), gamma.data(),
                                                beta.data(), or_null(scale_shift), mean.data(), rstd.data(),
                                                c.activation, nullptr, nullptr, dx.data(), or_null(dx2),
                                                dgamma.data(), dbeta.data(), nullptr, sums.data()});
  check_gradient(name + " of a sum", added, sums, loss);
}

void check_attention(const std::string& name, const AttentionGeometry& s, double scale) {
  const std::int64_t rows = std::int64_t{s.n} * s.tokens;
  Doubles qkv = uniform(rows * 3 * s.channels(), 1), logsumexp(static_cast<std::size_t>(rows * s.heads));
  const Doubles dout = uniform(rows * s.channels(), 2);
  Doubles out(dout.size()), dqkv(qkv.size());
  const auto loss = [&] {
    launch(Reference{}, AttentionForward<double>{s, qkv.data(), scale, out.data(), logsumexp.data()});
    return dot(out, dout);
  };
  loss();
  launch(Reference{}, AttentionBackward<double>{s, qkv.data(), out.data(), dout.data(), logsumexp.data(),
                                                scale, dqkv.data()});
  check_gradient(name, qkv, dqkv, loss);
}

}  // namespace

TEST_CASE("gradients of conv2d", "[gradient][conv2d]") {
  check_conv2d("3x3", {2, 5, 4, 3, 0, 4, 3, {}});
  check_conv2d("1x1", {2, 3, 5, 4, 0, 3, 1, {.pad_begin = 0, .pad_end = 0}});
  check_conv2d("stride 2", {1, 6, 7, 3, 0, 2, 3, {.stride = 2}});
  check_conv2d("asymmetric padding", {2, 6, 4, 3, 0, 2, 3, {.stride = 2, .pad_begin = 0, .pad_end = 1}});
  check_conv2d("two tensors", {2, 4, 3, 3, 2, 4, 3, {}});
  check_conv2d("upsampling", {1, 3, 4, 3, 0, 2, 3, {.upsample = 2}});
  check_conv2d("upsampling of two tensors", {1, 3, 2, 2, 3, 2, 3, {.upsample = 2}});
  check_conv2d("5x5", {1, 5, 6, 2, 0, 2, 5, {.pad_begin = 2, .pad_end = 2}});
}

TEST_CASE("the scale of conv2d multiplies all of its output", "[gradient][conv2d]") {
  const Conv2dGeometry s = geometry({1, 3, 3, 2, 0, 2, 3, {}});
  const Doubles x = uniform(18, 1), weight = uniform(36, 2), bias = uniform(2, 3), residual = uniform(18, 4);
  Doubles once(18), scaled(18);
  for (const double scale : {1.0, 0.5})
    launch(Reference{},
           Conv2dForward<double>{s, x.data(), nullptr, weight.data(), nullptr, bias.data(), nullptr,
                                 residual.data(), scale, scale == 1 ? once.data() : scaled.data()});
  for (std::size_t i = 0; i < 18; ++i) CHECK(scaled[i] == 0.5 * once[i]);
}

TEST_CASE("gradients of linear", "[gradient][linear]") {
  const std::int64_t m = 5;
  const int in = 7, out = 3;
  Doubles x = uniform(m * in, 1), weight = uniform(in * out, 2), bias = uniform(out, 3),
          residual = uniform(m * out, 4);
  const Doubles dy = uniform(m * out, 5);
  Doubles y(dy.size()), dx(x.size()), dweight(weight.size()), dbias(bias.size());
  const auto loss = [&] {
    launch(Reference{}, LinearForward<double>{x.data(), weight.data(), nullptr, bias.data(), residual.data(),
                                              1.0, y.data(), m, in, out});
    return dot(y, dy);
  };
  launch(Reference{}, LinearBackwardData<double>{dy.data(), weight.data(), nullptr, dx.data(), m, in, out});
  launch(Reference{},
         LinearBackwardWeight<double>{x.data(), dy.data(), dweight.data(), m, in, out, dbias.data()});
  check_gradient("linear x", x, dx, loss);
  check_gradient("linear weight", weight, dweight, loss);
  check_gradient("linear bias", bias, dbias, loss);
  check_gradient("linear residual", residual, dy, loss);
}

TEST_CASE("gradients of group_norm", "[gradient][group_norm]") {
  for (const Activation activation : {Activation::none, Activation::silu})
    for (const bool scale_shift : {false, true}) {
      check_group_norm("group_norm", {{2, 5, 6, 0, 2}, activation, scale_shift});
      check_group_norm("group_norm of single channels", {{2, 4, 3, 0, 3}, activation, scale_shift});
      check_group_norm("group_norm of two tensors", {{2, 6, 3, 5, 2}, activation, scale_shift});
      check_norm_of_sum("group_norm", {{2, 5, 6, 0, 2}, activation, scale_shift});
      check_norm_of_sum("group_norm of two tensors", {{2, 6, 3, 5, 2}, activation, scale_shift});
    }
}

TEST_CASE("gradients of attention", "[gradient][attention]") {
  check_attention("one head", {2, 5, 1, 4}, 0.5);
  check_attention("three heads", {2, 4, 3, 3}, 1 / std::sqrt(3.0));
  check_attention("one channel", {1, 6, 2, 1}, 1);
}

TEST_CASE("gradients of silu and softmax", "[gradient][activation]") {
  Doubles x = uniform(40, 1);
  for (double& v : x) v *= 6;
  const Doubles dy = uniform(40, 2);
  Doubles y(40), dx(40);
  launch(Reference{}, SiluBackward<double>{x.data(), dy.data(), dx.data(), 40});
  check_gradient("silu", x, dx, [&] {
    launch(Reference{}, SiluForward<double>{x.data(), y.data(), 40});
    return dot(y, dy);
  });
  const auto softmax_loss = [&] {
    launch(Reference{}, SoftmaxForward<double>{x.data(), y.data(), 5, 8});
    return dot(y, dy);
  };
  softmax_loss();
  launch(Reference{}, SoftmaxBackward<double>{y.data(), dy.data(), dx.data(), 5, 8});
  check_gradient("softmax", x, dx, softmax_loss);
}

TEST_CASE("gradients of upsampling", "[gradient][resample]") {
  Doubles x = uniform(2 * 3 * 2 * 3, 1);
  const Doubles dy = uniform(4 * 36, 2);
  Doubles y(dy.size()), dx(x.size());
  launch(Reference{}, UpsampleBackward<double>{dy.data(), dx.data(), 2, 3, 2, 3});
  check_gradient("upsample", x, dx, [&] {
    launch(Reference{}, UpsampleForward<double>{x.data(), y.data(), 2, 3, 2, 3});
    return dot(y, dy);
  });
}

TEST_CASE("gradients of the mean squared error", "[gradient][loss]") {
  Doubles prediction = uniform(12, 1);
  const Doubles target = uniform(12, 2), weight{0.5, 2, 1};
  for (const double* w : {static_cast<const double*>(nullptr), weight.data()}) {
    Doubles gradient(12);
    double value = 0;
    launch(Reference{}, MseLoss<double>{prediction.data(), target.data(), w, &value, gradient.data(), 3, 4});
    check_gradient("mse", prediction, gradient, [&] {
      launch(Reference{}, MseLoss<double>{prediction.data(), target.data(), w, &value, nullptr, 3, 4});
      return value;
    });
  }
}

TEST_CASE("gradients of the class embedding", "[gradient][embedding]") {
  Doubles table = uniform(4 * 3, 1);
  const Doubles dy = uniform(5 * 3, 2);
  const std::int32_t label[] = {2, 0, 2, 3, 2};
  Doubles dtable(table.size());
  launch(Reference{}, ClassEmbeddingBackward<double>{dy.data(), label, dtable.data(), 5, 3});
  check_gradient("class embedding", table, dtable, [&] {
    Doubles y(dy.size());
    launch(Reference{}, ClassEmbedding<double>{table.data(), label, y.data(), 5, 3});
    return dot(y, dy);
  });
}
