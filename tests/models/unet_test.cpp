// SPDX-License-Identifier: MIT
// UNet: names, gradients, devices, errors, memory, initialisation and a little training.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <functional>
#include <source_location>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <ddpm/ddpm.hpp>

#include "catch_shim.hpp"
#include "nn/gradient_support.hpp"
#include "ops/cpu_support.hpp"

using namespace ddpm;
using namespace gradient_support;

namespace {

using Labels = std::vector<std::int32_t>;

// Two levels of four and eight channels.
UNetConfig tiny() {
  UNetConfig config;
  config.in_channels = config.out_channels = 2;
  config.block_out_channels = {4, 8};
  config.down_blocks = {DownBlock::plain, DownBlock::plain};
  config.up_blocks = {UpBlock::plain, UpBlock::plain};
  config.layers_per_block = 1;
  config.norm_num_groups = 2;
  config.attention_head_dim = 4;
  return config;
}

// A model with inputs for it.
template <class T, class D>
struct Setup {
  UNet<T, D> model;
  Tensor<T, D> x;
  Tensor<std::int32_t, D> t, labels;
  typename UNet<T, D>::Cache cache;

  Setup(const D& device, const UNetConfig& config, const Shape& shape)
      : model(device, config),
        x(uniform_tensor<T>(device, shape, 1)),
        t(device, {shape[0]}),
        labels(config.num_class_embeds > 0 ? Tensor<std::int32_t, D>(device, {shape[0]})
                                           : Tensor<std::int32_t, D>()) {
    std::vector<std::int32_t> steps, classes;
    for (int i = 0; i < shape[0]; ++i) {
      steps.push_back((37 + 501 * i) % 1000);
      if (config.num_class_embeds > 0) classes.push_back((1 + i) % config.num_class_embeds);
    }
    t.upload(steps);
    if (!labels.empty()) labels.upload(classes);
    model.parameters().enable_gradients();
    randomize(model);
    cache.labels = labels;
    cache.position = {5, 11, 0, RandomStream::forward_noise};
  }

  Tensor<T, D> forward() { return model.forward(x, t, cache); }
};

void check_differences(const std::string& name, const UNetConfig& config, const Shape& shape) {
  Setup<double, Reference> s(Reference{}, config, shape);
  const auto y = s.forward();
  REQUIRE(y.shape() == Shape{shape[0], shape[1], shape[2], config.out_channels});
  const std::vector<double> weights = uniform<double>(y.numel(), 50);
  const Tensor<double, Reference> dy(Reference{}, y.shape(), weights);
  s.model.backward(dy, s.cache);
  const auto dx = s.model.input_gradient(s.cache);
  const auto loss = [&] { return dot(s.forward().to_host(), weights); };
  check_gradient(name + " x", s.x, dx, loss, {.count = 6});
  check_parameter_gradients(name, s.model, loss, {.count = 1});
}

// Activations within 1e-5 of the largest, gradients of the parameters within 3e-5.
void check_devices(const std::string& name, const UNetConfig& config, const Shape& shape) {
  const auto run = [&](const auto& device) {
    Setup<float, std::remove_cvref_t<decltype(device)>> s(device, config, shape);
    const auto y = s.forward();
    const auto dy = uniform_tensor<float>(device, y.shape(), 50);
    s.model.backward(dy, s.cache);
    cpu_support::Outputs outputs{y.to_host(), s.model.input_gradient(s.cache).to_host()};
    append_gradients<float>(s.model, outputs);
    return outputs;
  };
  const cpu_support::Outputs expected = run(Reference{}), found = run(Cpu{});
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    INFO(name << ", output " << i);
    CHECK(cpu_support::difference(found[i], expected[i]) <= (i < 2 ? 1e-5 : 3e-5));
  }
}

// The configurations that reach every option.
struct Variant {
  std::string name;
  UNetConfig config;
  Shape shape;
};

std::vector<Variant> variants() {
  std::vector<Variant> all;
  const auto add = [&](const std::string& name, const Shape& shape, const auto& change) {
    Variant v{name, tiny(), shape};
    change(v.config);
    all.push_back(v);
  };
  add("plain, padding 1", {2, 4, 6, 2}, [](UNetConfig&) {});
  add("attention, padding 0, cifar embedding", {2, 6, 4, 2}, [](UNetConfig& c) {
    c.down_blocks = {DownBlock::plain, DownBlock::attention};
    c.up_blocks = {UpBlock::attention, UpBlock::plain};
    c.attention_head_dim.reset();
    c.downsample_padding = 0;
    c.flip_sin_to_cos = false;
    c.freq_shift = 1;
    c.norm_eps = 1e-6;
  });
  add("attention at every level, two layers", {1, 4, 2, 2}, [](UNetConfig& c) {
    c.down_blocks = {DownBlock::attention, DownBlock::attention};
    c.up_blocks = {UpBlock::attention, UpBlock::attention};
    c.layers_per_block = 2;
  });
  add("scale_shift, middle attention without norm", {2, 4, 4, 2}, [](UNetConfig& c) {
    c.resnet_time_scale_shift = TimeScaleShift::scale_shift;
    c.mid_block_scale_factor = 2;
  });
  add("scale_shift, middle attention with groups of its own", {1, 4, 4, 2}, [](UNetConfig& c) {
    c.resnet_time_scale_shift = TimeScaleShift::scale_shift;
    c.attn_norm_num_groups = 4;
  });
  add("classes, centered input, no middle attention", {3, 2, 4, 2}, [](UNetConfig& c) {
    c.num_class_embeds = 3;
    c.center_input_sample = true;
    c.add_attention = false;
  });
  add("middle scale factor 2, dropout", {2, 4, 4, 2}, [](UNetConfig& c) {
    c.mid_block_scale_factor = 2;
    c.dropout = 0.25;
  });
  add("3 to 1 channels, three levels", {1, 8, 4, 3}, [](UNetConfig& c) {
    c.in_channels = 3;
    c.out_channels = 1;
    c.block_out_channels = {4, 6, 4};
    c.down_blocks = {DownBlock::plain, DownBlock::plain, DownBlock::attention};
    c.up_blocks = {UpBlock::attention, UpBlock::plain, UpBlock::plain};
    c.attention_head_dim = 2;
    c.downsample_padding = 0;
  });
  add("widths that shrink", {2, 8, 8, 2}, [](UNetConfig& c) {
    c.block_out_channels = {8, 4, 4};
    c.down_blocks = {DownBlock::plain, DownBlock::plain, DownBlock::plain};
    c.up_blocks = {UpBlock::plain, UpBlock::plain, UpBlock::plain};
    c.mid_block_scale_factor = 2;
  });
  return all;
}

std::string text(const Shape& shape) {
  std::ostringstream out;
  out << shape;
  return out.str();
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("cifar10 has the names, order and shapes of the diffusers checkpoint", "[unet]") {
  const std::string here = std::source_location::current().file_name();
  std::ifstream list(here.substr(0, here.rfind('/') + 1) + "unet2d_params.txt");
  std::vector<std::string> expected, found;
  for (std::string line; std::getline(list, line);) expected.push_back(line);
  REQUIRE(expected.size() == 328);

  const UNet<float, Cpu> model(Cpu{}, UNetConfig::cifar10());
  std::int64_t parameters = 0;
  model.visit("", [&](const std::string& name, const Parameter<float, Cpu>& parameter) {
    const Shape& s =
        parameter.shape();  // convolutions are [Cout, K, K, Cin] here and [Cout, Cin, K, K] there
    found.push_back(name + '\t' + text(s.rank() == 4 ? Shape{s[0], s[3], s[1], s[2]} : s));
    parameters += s.numel();
  });
  CHECK(parameters == 35'746'307);
  std::sort(expected.begin(), expected.end());
  std::sort(found.begin(), found.end());
  CHECK(found == expected);
}

TEST_CASE("gradients of whole U-Nets", "[unet]") {
  for (const Variant& v : variants()) check_differences(v.name, v.config, v.shape);
}

TEST_CASE("Cpu U-Nets against Reference", "[unet][cpu]") {
  for (Variant v : variants()) {
    for (int& channels : v.config.block_out_channels) channels *= 4;
    check_devices(v.name, v.config, {v.shape[0], 2 * v.shape[1], 2 * v.shape[2], v.shape[3]});
  }
}

TEST_CASE("what a U-Net refuses", "[unet][errors]") {
  UNetConfig config = tiny();
  config.block_out_channels = {4, 4, 8};
  config.down_blocks.resize(3);
  config.up_blocks.resize(3, UpBlock::plain);
  const UNet<float, Reference> model(Reference{}, config);
  const auto predict = [](const auto& unet, const Shape& shape, bool labels) {
    return message_of([&] {
      const auto x = Tensor<float, Reference>::zeros(Reference{}, shape);
      const auto t = Tensor<std::int32_t, Reference>::zeros(Reference{}, {shape[0]});
      unet.predict(x, t, labels ? t.view() : TensorView<std::int32_t, Reference>{});
    });
  };
  CHECK(predict(model, {1, 8, 12, 2}, false) == "nothing was thrown");
  const std::string size = predict(model, {1, 8, 10, 2}, false);
  CHECK(contains(size, "8 x 10"));
  CHECK(contains(size, "multiples of 4"));
  const std::string channels = predict(model, {1, 8, 8, 3}, false);
  CHECK(contains(channels, "[1, 8, 8, 3]"));
  CHECK(contains(channels, "expected [N, H, W, 2]"));
  CHECK(contains(predict(model, {1, 8, 8, 2}, true), "labels are given"));

  config.num_class_embeds = 3;
  CHECK(contains(predict(UNet<float, Reference>(Reference{}, config), {1, 8, 8, 2}, false),
                 "labels are missing"));

  const auto build = [](const auto& change) {
    return message_of([&] {
      UNetConfig wrong = tiny();
      change(wrong);
      const UNet<float, Reference> unet(Reference{}, wrong);
    });
  };
  CHECK(contains(build([](UNetConfig& c) { c.norm_num_groups = 3; }),
                 "4 channels are not divisible by 3 groups"));
  CHECK(contains(build([](UNetConfig& c) { c.attention_head_dim = 3; }), "head dimension of 3"));
  CHECK(contains(build([](UNetConfig& c) { c.up_blocks.pop_back(); }), "1 up blocks"));
  CHECK(contains(build([](UNetConfig& c) { c.downsample_padding = 2; }), "downsample_padding is 2"));
  CHECK(contains(build([](UNetConfig& c) { c.dropout = 1; }), "dropout is 1"));
  CHECK(contains(build([](UNetConfig& c) { c.layers_per_block = 0; }), "layers_per_block 0"));

  UNet<float, Reference>::Cache cache;
  const auto x = Tensor<float, Reference>::zeros(Reference{}, {1, 4, 4, 2});
  const auto t = Tensor<std::int32_t, Reference>::zeros(Reference{}, {1});
  const auto y = model.forward(x, t, cache);
  CHECK(contains(message_of([&] { model.backward(y, cache); }), "enable_gradients"));
}

// Weights are prepared when a sampling reads them for the third time, in blocks that the fourth step may miss.
TEST_CASE("nothing is allocated after the first step of training and the fourth of sampling",
          "[unet][memory]") {
  const auto check_device = []<class T, class D>(T, const D& device) {
    UNetConfig config = tiny();
    config.down_blocks.back() = DownBlock::attention;
    config.up_blocks.front() = UpBlock::attention;
    config.block_out_channels = {8, 16};
    config.dropout = 0.1;
    Diffusion diffusion{UNet<T, D>(device, config, Rng{1}), LinearSchedule{}};
    AdamW optimizer{diffusion.model(), {.grad_clip = 1}};
    Ema ema{diffusion.model(), 0.99};
    Rng rng{2};
    const auto images = uniform_tensor<float>(device, {4, 8, 8, 2}, 1);
    const auto train = [&] {
      diffusion.train_step({.images = images}, rng);
      optimizer.step(ema);
    };
    train();
    const std::int64_t after_training = device.memory().system_allocations;
    for (int i = 0; i < 3; ++i) train();
    CHECK(device.memory().system_allocations == after_training);

    const auto denoiser = diffusion.with(ema.model());
    auto sampling = denoiser.begin(Ddim{.steps = 6}, {3, 8, 8, 2});
    const RandomPosition position = rng.next_images(3, RandomStream::initial_noise);
    fill_normal<float, D>(position, sampling.x());
    for (int i = 0; i < 4; ++i) sampling.step(position);
    const std::int64_t after_sampling = device.memory().system_allocations;
    while (sampling.done() < sampling.steps()) sampling.step(position);
    CHECK(device.memory().system_allocations == after_sampling);
  };
  check_device(0.0f, Cpu{});
  check_device(0.0f, Reference{});
  check_device(bf16(0), Cpu{});
}

TEST_CASE("parameters begin as in the original code", "[unet][init]") {
  UNetConfig config = tiny();
  config.block_out_channels = {32, 64};
  config.down_blocks.back() = DownBlock::attention;
  config.up_blocks.front() = UpBlock::attention;
  config.num_class_embeds = 50;
  const UNet<float, Cpu> model(Cpu{}, config, Rng{3});
  std::vector<float> first_weights;
  model.visit("", [&](const std::string& name, const auto& parameter) {
    INFO(name);
    const std::vector<float> values = parameter.value().to_host();
    const Shape& s = parameter.shape();
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    if (s.rank() == 1) {
      CHECK((*least == *most && *least == (name.ends_with("bias") ? 0.0f : 1.0f)));
      return;
    }
    double sum = 0, squares = 0;
    for (const double v : values) {
      sum += v;
      squares += v * v;
    }
    const auto count = static_cast<double>(values.size());
    const bool nearly_zero =
        contains(name, "conv2.") || contains(name, "to_out.0.") || name == "conv_out.weight";
    const double fan_average = static_cast<double>(s.rank() == 4 ? s[1] * s[2] : 1) *
                               static_cast<double>(s[0] + s[s.rank() - 1]) / 2;
    const double limit = std::sqrt(3 * (nearly_zero ? 1e-10 : 1) / fan_average);
    const bool normal = name == "class_embedding.weight";
    const double deviation = normal ? 1 : limit / std::sqrt(3.0);
    CHECK(std::abs(sum / count) < 5 * deviation / std::sqrt(count));
    CHECK(squares / count == Approx(deviation * deviation).epsilon(8 / std::sqrt(count)));
    if (normal) return;
    CHECK(std::max(-*least, *most) <= limit * (1 + 1e-6));
    CHECK(std::max(-*least, *most) >= limit * (1 - 15 / count));
    first_weights.push_back(values.front() / static_cast<float>(limit));
  });
  std::sort(first_weights.begin(), first_weights.end());
  CHECK(std::adjacent_find(first_weights.begin(), first_weights.end()) == first_weights.end());
}

TEST_CASE("predict computes what forward does", "[unet]") {
  for (const Variant& v : variants()) {
    if (v.config.dropout > 0) continue;
    INFO(v.name);
    Setup<float, Cpu> cpu(Cpu{}, v.config, v.shape);
    CHECK(cpu.model.predict(cpu.x, cpu.t, cpu.labels).to_host() == cpu.forward().to_host());
    Setup<float, Reference> reference(Reference{}, v.config, v.shape);
    CHECK(reference.model.predict(reference.x, reference.t, reference.labels).to_host() ==
          reference.forward().to_host());
  }
}

TEST_CASE("dropout acts in training only and by the position of the batch", "[unet]") {
  UNetConfig config = tiny();
  config.dropout = 0.5;
  Setup<float, Cpu> s(Cpu{}, config, {2, 4, 4, 2});
  const auto first = s.forward().to_host();
  CHECK(s.forward().to_host() == first);
  CHECK(s.model.predict(s.x, s.t).to_host() != first);
  s.cache.position.sample += 2;
  CHECK(s.forward().to_host() != first);
}

TEST_CASE("a clone has the weights and goes its own way", "[unet]") {
  Setup<float, Cpu> s(Cpu{}, tiny(), {2, 4, 4, 2});
  const auto before = s.model.predict(s.x, s.t).to_host();
  const UNet<float, Cpu> copy = s.model.clone();
  CHECK(copy.predict(s.x, s.t).to_host() == before);
  copy.visit("", [](const std::string&, const auto& parameter) {
    parameter.value().zero();
    parameter.changed();
  });
  CHECK(copy.predict(s.x, s.t).to_host() == std::vector<float>(before.size()));
  CHECK(s.model.predict(s.x, s.t).to_host() == before);
  const UNet<float, Cpu> moved = std::move(s.model);
  CHECK(moved.predict(s.x, s.t).to_host() == before);
}

TEST_CASE("training learns a toy set", "[unet]") {
  UNetConfig config = tiny();
  config.block_out_channels = {16, 16};
  config.in_channels = config.out_channels = 1;
  Diffusion diffusion{UNet<float, Cpu>(Cpu{}, config, Rng{1}),
                      LinearSchedule{{.beta_end = 0.2, .timesteps = 100}}};
  AdamW optimizer{diffusion.model(), {.lr = 2e-3, .grad_clip = 1}};
  std::vector<float> pixels;  // two images: bright left half, bright right half
  for (int n = 0; n < 16; ++n)
    for (int i = 0; i < 64; ++i) pixels.push_back((i % 8 < 4) == (n % 2 == 0) ? 1.0f : -1.0f);
  const Tensor<float, Cpu> images(Cpu{}, {16, 8, 8, 1}, pixels);
  Rng rng{1};
  double first = 0, last = 0;
  for (int step = 0; step < 160; ++step) {
    const double loss = static_cast<double>(diffusion.train_step({.images = images}, rng).value());
    optimizer.step();
    if (step < 5) first += loss / 5;
    if (step >= 140) last += loss / 20;
  }
  CHECK(first > 0.8);
  CHECK(last < 0.35 * first);
}
