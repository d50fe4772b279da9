// SPDX-License-Identifier: MIT
// Every layer: central differences of inputs and parameters in double, and Cpu against Reference.

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <ddpm/ddpm.hpp>

#include "catch_shim.hpp"
#include "nn/gradient_support.hpp"
#include "ops/cpu_support.hpp"

using namespace ddpm;
using namespace gradient_support;

namespace {

// A case is a layer with its inputs: forward() and backward(dy), which returns the gradients of the inputs.
template <class T, class D>
using Tensors = std::vector<Tensor<T, D>>;

template <class T, class D, class Layer>
struct Case {
  ParameterBuffer<T, D> parameters;
  Tensors<T, D> inputs;
  Layer layer;

  template <class Make>
  Case(const D& device, const std::vector<Shape>& shapes, Make&& make)
      : parameters(device), layer(make(parameters)) {
    parameters.allocate();
    parameters.enable_gradients();
    randomize(layer);
    for (const Shape& shape : shapes)
      inputs.push_back(uniform_tensor<T>(device, shape, static_cast<std::uint32_t>(1 + inputs.size())));
  }

  TensorView<T, D> input(std::size_t i) const {
    return i < inputs.size() ? inputs[i].view() : TensorView<T, D>{};
  }
  Tensors<T, D> input_gradients() const {
    Tensors<T, D> gradients;
    for (const auto& x : inputs) gradients.push_back(Tensor<T, D>::zeros(x.device(), x.shape()));
    return gradients;
  }
};

struct ConvShape {
  int n, h, w;
  Conv2dConfig conv;
  int second = 0;  // channels of x2, out of conv.in
};

template <class T, class D>
struct ConvCase : Case<T, D, Conv2d<T, D>> {
  typename Conv2d<T, D>::Cache cache;

  ConvCase(const D& device, const ConvShape& c)
      : Case<T, D, Conv2d<T, D>>(device,
                                 c.second > 0 ? std::vector<Shape>{{c.n, c.h, c.w, c.conv.in - c.second},
                                                                   {c.n, c.h, c.w, c.second}}
                                              : std::vector<Shape>{{c.n, c.h, c.w, c.conv.in}},
                                 [&](auto& parameters) { return Conv2d<T, D>(parameters, c.conv); }) {}

  Tensor<T, D> forward() { return this->layer.forward({.x = this->input(0), .x2 = this->input(1)}, cache); }
  Tensors<T, D> backward(const TensorView<T, D>& dy) {
    Tensors<T, D> dx = this->input_gradients();
    this->layer.backward_parameters(dy, cache);
    this->layer.backward_data(dy, dx[0], dx.size() > 1 ? dx[1].view() : TensorView<T, D>{});
    return dx;
  }
};

struct LinearShape {
  int n, in, out;
};

template <class T, class D>
struct LinearCase : Case<T, D, Linear<T, D>> {
  typename Linear<T, D>::Cache cache;

  LinearCase(const D& device, const LinearShape& c)
      : Case<T, D, Linear<T, D>>(device, {{c.n, c.in}},
                                 [&](auto& parameters) { return Linear<T, D>(parameters, c.in, c.out); }) {}

  Tensor<T, D> forward() { return this->layer.forward(this->input(0), cache); }
  Tensors<T, D> backward(const TensorView<T, D>& dy) {
    Tensors<T, D> dx;
    dx.push_back(this->layer.backward(dy, cache));
    return dx;
  }
};

struct NormShape {
  int n, h, w, c, c2;
  GroupNormOptions options;
  bool scale_shift = false;
};

template <class T, class D>
struct NormCase : Case<T, D, GroupNorm<T, D>> {
  typename GroupNorm<T, D>::Cache cache;
  bool two, scale_shift;

  static std::vector<Shape> shapes(const NormShape& c) {
    std::vector<Shape> all{{c.n, c.h, c.w, c.c}};
    if (c.c2 > 0) all.push_back({c.n, c.h, c.w, c.c2});
    if (c.scale_shift) all.push_back({c.n, 2 * (c.c + c.c2)});
    return all;
  }

  NormCase(const D& device, const NormShape& c)
      : Case<T, D, GroupNorm<T, D>>(
            device, shapes(c),
            [&](auto& parameters) { return GroupNorm<T, D>(parameters, c.c + c.c2, c.options); }),
        two(c.c2 > 0),
        scale_shift(c.scale_shift) {}

  Tensor<T, D> forward() {
    return this->layer.forward({.x = this->input(0),
                                .x2 = two ? this->input(1) : TensorView<T, D>{},
                                .scale_shift = scale_shift ? this->inputs.back().view() : TensorView<T, D>{}},
                               cache);
  }
  Tensors<T, D> backward(const TensorView<T, D>& dy) {
    Tensors<T, D> dx = this->input_gradients();
    this->layer.backward(dy, cache,
                         {.dx = dx[0],
                          .dx2 = two ? dx[1].view() : TensorView<T, D>{},
                          .dscale_shift = scale_shift ? dx.back().view() : TensorView<T, D>{}});
    return dx;
  }
};

struct AttentionShape {
  int n, h, w;
  AttentionConfig attention;
};

template <class T, class D>
struct AttentionCase : Case<T, D, AttentionBlock<T, D>> {
  typename AttentionBlock<T, D>::Cache cache;

  AttentionCase(const D& device, const AttentionShape& c)
      : Case<T, D, AttentionBlock<T, D>>(
            device, {{c.n, c.h, c.w, c.attention.channels}},
            [&](auto& parameters) { return AttentionBlock<T, D>(parameters, c.attention); }) {}

  Tensor<T, D> forward() { return this->layer.forward(this->input(0), cache); }
  Tensors<T, D> backward(const TensorView<T, D>& dy) {
    Tensors<T, D> dx;
    dx.push_back(this->layer.backward(dy, cache));
    return dx;
  }
};

struct ResnetShape {
  int n, h, w;
  ResnetConfig resnet;
  int second = 0;  // channels of x2, out of resnet.in
};

template <class T, class D>
struct ResnetCase : Case<T, D, ResnetBlock<T, D>> {
  typename ResnetBlock<T, D>::Cache cache;
  RandomPosition position{7, 3, 2, RandomStream::dropout};
  bool two;

  static std::vector<Shape> shapes(const ResnetShape& c) {
    std::vector<Shape> all{{c.n, c.h, c.w, c.resnet.in - c.second}};
    if (c.second > 0) all.push_back({c.n, c.h, c.w, c.second});
    all.push_back({c.n, c.resnet.time_embedding_dim});
    return all;
  }

  ResnetCase(const D& device, const ResnetShape& c)
      : Case<T, D, ResnetBlock<T, D>>(
            device, shapes(c), [&](auto& parameters) { return ResnetBlock<T, D>(parameters, c.resnet); }),
        two(c.second > 0) {}

  typename ResnetBlock<T, D>::Input in(bool training) const {
    return {.x = this->input(0),
            .x2 = two ? this->input(1) : TensorView<T, D>{},
            .temb = this->inputs.back(),
            .dropout = position,
            .training = training};
  }
  Tensor<T, D> forward() { return this->layer.forward(in(true), cache); }
  Tensors<T, D> backward(const TensorView<T, D>& dy) {
    Tensors<T, D> dx = this->input_gradients();
    this->layer.backward(dy, cache,
                         {.dx = dx[0], .dx2 = two ? dx[1].view() : TensorView<T, D>{}, .dtemb = dx.back()});
    return dx;
  }
};

template <class T, class D>
struct TimeCase : Case<T, D, TimeEmbeddingMlp<T, D>> {
  typename TimeEmbeddingMlp<T, D>::Cache cache;

  TimeCase(const D& device, const LinearShape& c)
      : Case<T, D, TimeEmbeddingMlp<T, D>>(device, {{c.n, c.in}}, [&](auto& parameters) {
          return TimeEmbeddingMlp<T, D>(parameters, c.in, c.out);
        }) {}

  Tensor<T, D> forward() { return this->layer.forward(this->input(0), cache); }
  Tensors<T, D> backward(const TensorView<T, D>& dy) {
    Tensors<T, D> dx = this->input_gradients();
    this->layer.backward(dy, cache, dx[0]);
    return dx;
  }
};

template <template <class, class> class LayerCase, class Config>
void check_differences(const std::string& name, const Config& config) {
  LayerCase<double, Reference> c(Reference{}, config);
  const Tensor<double, Reference> y = c.forward();
  const Tensor<double, Reference> dy = uniform_tensor<double>(Reference{}, y.shape(), 50);
  const auto dx = c.backward(dy);
  const std::vector<double> weights = dy.to_host();
  const auto loss = [&] { return dot(c.forward().to_host(), weights); };
  for (std::size_t i = 0; i < dx.size(); ++i)
    check_gradient(name + " input " + std::to_string(i), c.inputs[i], dx[i], loss);
  check_parameter_gradients(name, c.layer, loss);
}

// Gradients add to what is there, so the second backward pass doubles them.
template <template <class, class> class LayerCase, class Config>
void check_devices(const std::string& name, const Config& config) {
  cpu_support::check_against_reference(name, [&](const auto& device) {
    LayerCase<float, std::remove_cvref_t<decltype(device)>> c(device, config);
    cpu_support::Outputs outputs;
    const auto y = c.forward();
    outputs.push_back(y.to_host());
    const auto dy = uniform_tensor<float>(device, y.shape(), 50);
    for (const auto& dx : c.backward(dy)) outputs.push_back(dx.to_host());
    c.backward(dy);
    append_gradients<float>(c.layer, outputs);
    return outputs;
  });
}

ResnetConfig resnet(int in, int out, int groups) {
  return {.in = in, .out = out, .time_embedding_dim = 5, .groups = groups};
}

}  // namespace

TEST_CASE("gradients of Conv2d", "[layers]") {
  check_differences<ConvCase>("3x3", ConvShape{2, 4, 5, {.in = 3, .out = 4}});
  check_differences<ConvCase>("two tensors", ConvShape{2, 4, 3, {.in = 5, .out = 3}, 2});
  check_differences<ConvCase>(
      "down",
      ConvShape{1, 6, 4, {.in = 3, .out = 2, .options = {.stride = 2, .pad_begin = 0, .pad_end = 1}}});
  check_differences<ConvCase>("up", ConvShape{1, 2, 3, {.in = 3, .out = 2, .options = {.upsample = 2}}});
}

TEST_CASE("gradients of Linear", "[layers]") {
  check_differences<LinearCase>("linear", LinearShape{3, 5, 4});
}

TEST_CASE("gradients of GroupNorm", "[layers]") {
  check_differences<NormCase>("norm", NormShape{2, 2, 3, 6, 0, {2, 1e-5, Activation::silu}});
  check_differences<NormCase>("two tensors", NormShape{2, 2, 3, 4, 2, {3, 1e-5, Activation::none}});
  check_differences<NormCase>("scale_shift", NormShape{2, 2, 3, 4, 2, {2, 1e-5, Activation::silu}, true});
}

TEST_CASE("gradients of AttentionBlock", "[layers]") {
  check_differences<AttentionCase>("one head",
                                   AttentionShape{2, 2, 3, {.channels = 4, .head_dim = 4, .groups = 2}});
  check_differences<AttentionCase>("two heads",
                                   AttentionShape{1, 3, 2, {.channels = 6, .head_dim = 3, .groups = 3}});
  check_differences<AttentionCase>("no norm",
                                   AttentionShape{1, 2, 3, {.channels = 4, .head_dim = 2, .groups = 0}});
  for (const int groups : {0, 2})
    check_differences<AttentionCase>(
        "rescaled",
        AttentionShape{1, 2, 2, {.channels = 4, .head_dim = 2, .groups = groups, .rescale = 1.7}});
}

TEST_CASE("gradients of ResnetBlock", "[layers]") {
  for (const TimeScaleShift time : {TimeScaleShift::add, TimeScaleShift::scale_shift})
    for (const double rescale : {1.0, 1.7})
      for (const double dropout : {0.0, 0.3}) {
        const std::string name = std::string(time == TimeScaleShift::add ? "add" : "scale_shift") +
                                 " rescale " + std::to_string(rescale) + " dropout " +
                                 std::to_string(dropout);
        const auto with = [&](ResnetConfig c) {
          c.time_scale_shift = time;
          c.rescale = rescale;
          c.dropout = dropout;
          return c;
        };
        check_differences<ResnetCase>(name + " identity", ResnetShape{2, 3, 2, with(resnet(4, 4, 2))});
        check_differences<ResnetCase>(name + " shortcut", ResnetShape{2, 2, 3, with(resnet(4, 6, 2))});
        check_differences<ResnetCase>(name + " two tensors", ResnetShape{2, 2, 3, with(resnet(6, 4, 2)), 2});
        check_differences<ResnetCase>(name + " identity of two tensors",
                                      ResnetShape{2, 2, 3, with(resnet(6, 6, 2)), 2});
      }
}

TEST_CASE("gradients of TimeEmbeddingMlp", "[layers]") {
  check_differences<TimeCase>("time", LinearShape{3, 4, 6});
}

TEST_CASE("Cpu layers against Reference", "[layers][cpu]") {
  check_devices<ConvCase>("conv", ConvShape{3, 9, 7, {.in = 17, .out = 20}});
  check_devices<ConvCase>("conv of two tensors", ConvShape{2, 8, 8, {.in = 24, .out = 16}, 8});
  check_devices<LinearCase>("linear", LinearShape{5, 33, 20});
  check_devices<NormCase>("norm", NormShape{2, 5, 7, 16, 8, {4, 1e-5, Activation::silu}, true});
  check_devices<AttentionCase>(
      "attention", AttentionShape{2, 5, 4, {.channels = 24, .head_dim = 8, .groups = 4, .rescale = 1.7}});
  check_devices<AttentionCase>("attention without norm",
                               AttentionShape{2, 4, 4, {.channels = 16, .head_dim = 16, .groups = 0}});
  check_devices<TimeCase>("time", LinearShape{4, 16, 32});
}

TEST_CASE("Cpu ResnetBlock against Reference", "[layers][cpu]") {
  for (const TimeScaleShift time : {TimeScaleShift::add, TimeScaleShift::scale_shift}) {
    const auto with = [&](int in, int out) {
      return ResnetConfig{.in = in,
                          .out = out,
                          .time_embedding_dim = 24,
                          .groups = 4,
                          .dropout = 0.2,
                          .time_scale_shift = time,
                          .rescale = 1.7};
    };
    check_devices<ResnetCase>("identity", ResnetShape{2, 6, 5, with(16, 16)});
    check_devices<ResnetCase>("shortcut of two tensors", ResnetShape{2, 5, 6, with(24, 16), 8});
    check_devices<ResnetCase>("identity of two tensors", ResnetShape{2, 4, 6, with(24, 24), 8});
  }
}

TEST_CASE("dropout is for training, and keeps the expectation", "[layers][dropout]") {
  ResnetConfig config = resnet(4, 4, 2);
  ResnetConfig with_dropout = config;
  with_dropout.dropout = 0.4;
  const ResnetCase<double, Reference> plain(Reference{}, ResnetShape{2, 4, 4, config});
  ResnetCase<double, Reference> dropped(Reference{}, ResnetShape{2, 4, 4, with_dropout});
  const std::vector<double> expected = plain.layer(plain.in(true)).to_host();
  CHECK(dropped.layer(dropped.in(false)).to_host() == expected);

  // conv2 is linear in what dropout touches, so the mean over masks tends to the output without dropout.
  const int masks = 4000;
  std::vector<double> sum(expected.size()), squares(expected.size());
  for (int i = 0; i < masks; ++i) {
    dropped.position.sample = static_cast<std::uint64_t>(2 * i);
    const std::vector<double> y = dropped.layer(dropped.in(true)).to_host();
    for (std::size_t k = 0; k < y.size(); ++k) {
      sum[k] += y[k];
      squares[k] += y[k] * y[k];
    }
  }
  for (std::size_t k = 0; k < sum.size(); ++k) {
    const double mean = sum[k] / masks, variance = squares[k] / masks - mean * mean;
    CHECK(variance > 0);
    CHECK(std::abs(mean - expected[k]) < 5 * std::sqrt(variance / masks));
  }
}

TEST_CASE("a layer says what does not fit", "[layers]") {
  ParameterBuffer<float, Reference> parameters{Reference{}};
  CHECK_THROWS_AS((AttentionBlock<float, Reference>(parameters, {.channels = 6, .head_dim = 4, .groups = 2})),
                  ConfigError);
  const Conv2d<float, Reference> conv(parameters, {.in = 3, .out = 4});
  parameters.allocate();
  const Tensor<float, Reference> x(Reference{}, {1, 4, 4, 2});
  CHECK_THROWS_AS(conv({.x = x}), ShapeError);
  const Tensor<float, Reference> dy(Reference{}, {1, 4, 4, 4}), dx(Reference{}, {1, 4, 4, 1});
  CHECK_THROWS_AS(conv.backward_data(dy, x, dx, x), ConfigError);
}
