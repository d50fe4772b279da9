// SPDX-License-Identifier: MIT
// A whole U-Net on CudaSim: training and sampling by kernels alone, against Cpu.
#include <ddpm/ddpm.cuh>

#include "op_test.hpp"

using namespace ddpm;
using namespace ddpm::simt;

namespace {

// Every kind of layer: both resamplers, attention, joined inputs, shortcuts, classes, dropout.
UNetConfig tiny() {
  UNetConfig config;
  config.in_channels = config.out_channels = 3;
  config.height = config.width = 8;
  config.block_out_channels = {12, 20};
  config.layers_per_block = 1;
  config.norm_num_groups = 4;
  config.attention_head_dim = 10;
  config.down_blocks = {DownBlock::plain, DownBlock::attention};
  config.up_blocks = {UpBlock::attention, UpBlock::plain};
  config.num_class_embeds = 5;
  config.dropout = 0.1;
  return config;
}

constexpr int batch = 3;

// Weights of a network that has trained for a while: those that start at zero would hide what they multiply.
template <class T = float, class D>
UNet<T, D> trained_net(const D& device, const UNetConfig& config = tiny()) {
  UNet<T, D> net(device, config, Rng{5});
  const auto values = net.parameters().values();
  const Tensor<float, D> noise(device, values.shape());
  fill_normal(RandomPosition{9, 0, 0, RandomStream::parameter_init},
              noise.view().reshaped({1, noise.numel()}));
  auto host = values.to_host();
  const auto random = noise.to_host();
  for (std::size_t i = 0; i < host.size(); ++i) host[i] += 0.05f * random[i];
  values.upload(host);
  net.parameters().changed();
  return net;
}

struct Run {
  std::vector<double> losses;
  std::vector<float> weights, average;
};

// Steps of AdamW on images of bytes, with flips, labels, dropout, clipping and an average.
template <class D>
Run train(const D& device, int steps) {
  Diffusion diffusion{trained_net(device), LinearSchedule{}};
  AdamW optimizer{diffusion.model(), {.lr = 1e-3, .weight_decay = 0.01, .grad_clip = 0.5}};
  Ema ema{diffusion.model(), 0.9};
  Rng rng{3};
  ImageSet images{{}, {}, 7, 8, 8, 3};
  for (std::int64_t i = 0; i < images.count * images.image_size(); ++i)
    images.pixels.push_back(static_cast<std::uint8_t>(i * i * 31 % 251));
  for (int i = 0; i < 7; ++i) images.labels.push_back(i % 5);
  Loader loader{std::move(images), device, {.batch = batch, .classes = 5, .flip = true}, rng};
  Run run;
  for (int step = 0; step < steps; ++step) {
    run.losses.push_back(diffusion.train_step(loader.next(), rng).value());
    optimizer.step(ema);
  }
  run.weights = diffusion.model().parameters().values().to_host();
  run.average = ema.model().parameters().values().to_host();
  return run;
}

float largest(const std::vector<float>& values) {
  float most = 0;
  for (const float value : values) most = std::max(most, std::abs(value));
  return most;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(double(a[i]) - double(b[i]));
    largest = std::isfinite(difference) ? std::max(largest, difference) : INFINITY;
  }
  return largest;
}

template <class D, class S>
std::vector<float> sample(const D& device, const S& sampler) {
  const Diffusion diffusion{trained_net(device), LinearSchedule{}};
  Rng rng{11};
  const Tensor<std::int32_t, D> labels(device, {batch}, std::vector<std::int32_t>{0, 4, 2});
  return diffusion.with(diffusion.model())
      .sample(
          {batch, 8, 8, 3}, rng, sampler, [](const auto&) {}, labels)
      .to_host();
}

}  // namespace

TEST_CASE("three steps of training by kernels are those of Cpu") {
  const Run expected = train(Cpu{}, 3), found = train(CudaSim{}, 3);
  for (std::size_t i = 0; i < expected.losses.size(); ++i)
    CHECK(found.losses[i] == Approx(expected.losses[i]).epsilon(1e-5));
  // AdamW turns the sign of a gradient that is zero but for rounding into a whole step.
  CHECK(largest_difference(found.weights, expected.weights) < 3e-4);
  CHECK(largest_difference(found.average, expected.average) < 1e-4);
}

TEST_CASE("ten steps of sampling by kernels are those of Cpu") {
  CHECK(largest_difference(sample(CudaSim{}, Ancestral{.steps = 10}), sample(Cpu{}, Ancestral{.steps = 10})) <
        1e-4);
  CHECK(largest_difference(sample(CudaSim{}, Ddim{.steps = 10, .eta = 0.5}),
                           sample(Cpu{}, Ddim{.steps = 10, .eta = 0.5})) < 1e-4);
}

// Output and gradients of a model of bf16 whose convolutions run on tensor cores and leave moments.
template <class T, class D>
std::vector<float> pass(const D& device) {
  UNetConfig config = tiny();
  config.block_out_channels = {16, 32};
  config.attention_head_dim = 16;
  config.dropout = 0;
  auto net = trained_net<T>(device, config);
  net.parameters().enable_gradients();
  const auto normal = normal_values<float>(batch * 8 * 8 * 3, 1);
  const Tensor<T, D> x(device, {batch, 8, 8, 3}, std::vector<T>(normal.begin(), normal.end()));
  const Tensor<std::int32_t, D> t(device, {batch}, std::vector<std::int32_t>{3, 400, 999});
  const auto labels = Tensor<std::int32_t, D>::zeros(device, {batch});
  typename UNet<T, D>::Cache cache;
  cache.labels = labels;
  const Tensor<T, D> y = net.forward(x, t, cache);
  net.backward(y, cache);
  const auto output = y.to_host();
  std::vector<float> all(output.begin(), output.end());
  const auto gradients = net.parameters().gradients().to_host();
  const float scale = largest(all) / largest(gradients);
  for (const float gradient : gradients) all.push_back(scale * gradient);
  return all;
}

TEST_CASE("a U-Net of bf16 by kernels is that of float but for the rounding") {
  REQUIRE(conv2d_gives_moments<bf16>(CudaSim{}, {1, 8, 8, 16, 0, 16, 3, 1, 1, 1, 1, 8, 8}));
  const auto expected = pass<float>(Cpu{}), stored = pass<bf16>(Cpu{}), found = pass<bf16>(CudaSim{});
  const double scale = largest(expected);
  CHECK(largest_difference(found, expected) < 0.02 * scale);
  CHECK(largest_difference(stored, expected) < 0.02 * scale);
}

TEST_CASE("a step allocates nothing after the first two") {
  Diffusion diffusion{trained_net(CudaSim{}), LinearSchedule{}};
  AdamW optimizer{diffusion.model(), {.grad_clip = 1}};
  Rng rng{3};
  const Tensor<float, CudaSim> images(CudaSim{}, {batch, 8, 8, 3});
  fill_normal(RandomPosition{1, 0, 0, RandomStream::initial_noise}, images.view());
  const auto labels = Tensor<std::int32_t, CudaSim>::zeros(CudaSim{}, {batch});
  const auto step = [&] {
    diffusion.train_step({.images = images, .labels = labels}, rng);
    optimizer.step();
  };
  step();
  step();
  const MemoryStats before = CudaSim{}.memory();
  step();
  CHECK(CudaSim{}.memory().system_allocations == before.system_allocations);
  CHECK(CudaSim{}.memory().bytes_in_use == before.bytes_in_use);
}
