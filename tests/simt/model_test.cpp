// SPDX-License-Identifier: MIT
// A whole U-Net on CudaSim: training and sampling by kernels alone, against Cpu.
#include <ddpm/ddpm.cuh>

#include "op_test.hpp"
#include "tiny_unet.hpp"

using namespace ddpm;
using namespace ddpm::simt;

namespace {

constexpr int batch = 3;

struct Run {
  std::vector<double> losses;
  std::vector<float> weights, average;
};

// Steps of AdamW on images of bytes, with flips, labels, dropout, clipping and an average.
template <class T = float, class D>
Run train(const D& device, int steps) {
  Diffusion diffusion{trained_net<T>(device), LinearSchedule{}};
  AdamW optimizer{diffusion.model(), {.lr = 1e-3, .weight_decay = 0.01, .grad_clip = 0.5}};
  Ema ema{diffusion.model(), 0.9};
  Rng rng{3};
  Loader loader{tiny_images(), device, {.batch = batch, .classes = 5, .flip = true}, rng};
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

template <class T = float, class D, class S>
std::vector<float> sample(const D& device, const S& sampler) {
  const Diffusion diffusion{trained_net<T>(device), LinearSchedule{}};
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

TEST_CASE("training and sampling in TF32 are those of Cpu but for the rounding") {
  CudaSim device;
  device.float_products = FloatProducts::tf32;
  Executor::instance().sum = {};
  const Run expected = train(Cpu{}, 2), found = train(device, 2);
  CHECK(Executor::instance().sum.matrix_instructions > 0);
  for (std::size_t i = 0; i < expected.losses.size(); ++i)
    CHECK(found.losses[i] == Approx(expected.losses[i]).epsilon(0x1p-10));
  const Ancestral sampler{.steps = 10};
  CHECK(largest_difference(sample(device, sampler), sample(Cpu{}, sampler)) < 10 * 0x1p-10);
}

TEST_CASE("ten steps of training and of sampling in bf16 are those of Cpu but for the rounding") {
  const Run expected = train<bf16>(Cpu{}, 10), found = train<bf16>(CudaSim{}, 10);
  for (std::size_t i = 0; i < expected.losses.size(); ++i)
    CHECK(found.losses[i] == Approx(expected.losses[i]).epsilon(0x1p-10));
  const Ancestral sampler{.steps = 10};
  CHECK(largest_difference(sample<bf16>(CudaSim{}, sampler), sample<bf16>(Cpu{}, sampler)) < 10 * 0x1p-8);
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
