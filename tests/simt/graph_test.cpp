// SPDX-License-Identifier: MIT
// Graphs on CudaSim: what is recorded is what would have been done, to the bit, and what cannot be recorded is refused.
#include <ddpm/ddpm.cuh>

#include "op_test.hpp"
#include "tiny_unet.hpp"

using namespace ddpm;
using namespace ddpm::simt;

namespace {

const CudaSim device;
using Floats = Tensor<float, CudaSim>;

Floats floats(const std::vector<float>& values) {
  return {device, {static_cast<std::int64_t>(values.size())}, values};
}

template <class Body>
std::string refusal_of(Body body) {
  try {
    device.capture(body);
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "recorded";
}

}  // namespace

TEST_CASE("a graph does nothing when it is recorded and everything at each launch") {
  const Floats x = floats({1, 2, 3}), y = floats({10, 20, 30}), z = floats({7, 7, 7}),
               copy = floats({0, 0, 0});
  const std::int64_t launches = Executor::instance().launches();
  const auto graph = device.capture([&] {
    add_to(x.view(), y.view());
    copy.copy_from(y);
    z.zero();
  });
  CHECK(Executor::instance().launches() == launches);
  CHECK(graph.size() == 3);
  CHECK(y.to_host() == std::vector<float>{10, 20, 30});
  CHECK(z.to_host() == std::vector<float>{7, 7, 7});
  graph.launch();
  CHECK(y.to_host() == std::vector<float>{11, 22, 33});
  CHECK(z.to_host() == std::vector<float>{0, 0, 0});
  x.upload(std::vector<float>{100, 100, 100});
  graph.launch();
  CHECK(copy.to_host() == std::vector<float>{111, 122, 133});
}

TEST_CASE("a graph multiplies float as the device that records it") {
  CudaSim of_tf32;
  of_tf32.float_products = FloatProducts::tf32;
  for (const CudaSim& device : {CudaSim{}, of_tf32}) {
    const Floats x(device, {1, 2, 2, 4}, normal_values<float>(16, 1)),
        weight(device, {4, 1, 1, 4}, normal_values<float>(16, 2)), y(device, x.shape());
    const auto record = [&] {
      conv2d<float, CudaSim>({.x = x.view(), .weight = weight.view()}, {.pad_begin = 0, .pad_end = 0},
                             y.view());
    };
    record();
    const auto expected = y.to_host();
    y.zero();
    const auto graph = device.capture(record);
    Executor::instance().sum = {};
    graph.launch();
    CHECK(y.to_host() == expected);
    CHECK((Executor::instance().sum.matrix_instructions > 0) ==
          (device.float_products == FloatProducts::tf32));
  }
}

TEST_CASE("what a graph cannot hold is refused, and the device goes on") {
  const Floats x = floats({1, 2});
  const std::int64_t in_use = device.memory().bytes_in_use;
  const std::string reason = ": the device is recording a graph, expected only launches, copies and fills";
  CHECK(contains(refusal_of([&] { x.to_host(); }), "download" + reason));
  CHECK(contains(refusal_of([&] { device.synchronize(); }), "synchronize" + reason));
  CHECK(contains(refusal_of([&] { x.upload(std::vector<float>{3, 4}); }), "upload" + reason));
  CHECK(contains(refusal_of([&] { Floats(device, {2}, std::vector<float>{3, 4}); }), "upload" + reason));
  CHECK(contains(refusal_of([&] { device.capture([] {}); }), "capture" + reason));
  CHECK(contains(refusal_of([&] { Loss<float, CudaSim>(x.slice(0, 1)).value(); }), "download" + reason));
  CHECK(device.memory().bytes_in_use == in_use);
  CHECK(x.to_host() == std::vector<float>{1, 2});
}

TEST_CASE("nobody else gets the memory of a graph while it lives") {
  constexpr Shape shape = {12345};  // a size of its own
  const Floats source = Floats::zeros(device, shape);
  const void *temporary = nullptr, *kept = nullptr, *older = nullptr;
  Floats lives_on, given_back(device, shape);
  older = given_back.data();
  {
    const auto graph = device.capture([&] {
      given_back = {};
      const Floats one(device, shape), two(device, shape);
      temporary = two.data();
      lives_on = Floats(device, shape);
      kept = lives_on.data();
      lives_on.copy_from(source);
    });
    lives_on = {};
    const Floats other(device, shape), another(device, shape), third(device, shape), fourth(device, shape);
    for (const Floats* tensor : {&other, &another, &third, &fourth})
      for (const void* block : {temporary, kept, older}) CHECK(tensor->data() != block);
    graph.launch();
  }
  const std::int64_t allocations = device.memory().system_allocations;
  const Floats first(device, shape), second(device, shape), third(device, shape);
  CHECK(device.memory().system_allocations == allocations);
  CHECK((first.data() == kept || second.data() == kept || third.data() == kept));
}

TEST_CASE("a recording that fails gives its memory back") {
  const auto take = [] { const Floats temporary(device, {23456}); };
  take();
  const std::int64_t allocations = device.memory().system_allocations;
  for (int i = 0; i < 2; ++i)
    CHECK(refusal_of([&] {
            take();
            device.synchronize();
          }) != "recorded");
  take();
  CHECK(device.memory().system_allocations == allocations);
}

TEST_CASE("a graph that outlives what it borrows is found out") {
  const Floats y = floats({1, 2, 3, 4});
  auto x = std::make_unique<Floats>(floats({1, 2, 3, 4}));
  const auto graph = device.capture([&] { add_to(x->view(), y.view()); });
  graph.launch();
  x.reset();
  CHECK(contains(failure_of([&] { graph.launch(); }), "global vector load"));
}

namespace {

constexpr int batch = 1, steps = 5;

struct Run {
  std::vector<float> losses, weights, average, first, second;
  friend bool operator==(const Run&, const Run&) = default;
};

// Steps with everything that changes from one to the next: images, labels, samples, learning rate, decay of the average.
// Before the one that is recorded, the weights are read, as a preview does; before the last they are set, as by a
// checkpoint.
template <class T, class Step>
Run train(const Step& make_step) {
  Diffusion diffusion{trained_net<T>(device), LinearSchedule{}};
  using M = UNet<T, CudaSim>;
  AdamW<M> optimizer{diffusion.model(), {.weight_decay = 0.01, .grad_clip = 0.5}};
  Ema<M> ema{diffusion.model(), 0.99, {.warmup = true}};
  Rng rng{3};
  Loader loader{tiny_images(), device, {.batch = batch, .classes = 5, .flip = true}, rng};
  const auto x = Floats::zeros(device, {1, 8, 8, 3});
  const Tensor<T, CudaSim> preview(device, {1, 8, 8, 3});
  cast(x.view(), preview.view());
  const auto zero = Tensor<std::int32_t, CudaSim>::zeros(device, {1});
  auto step = make_step(diffusion, optimizer, ema);
  Run run;
  for (int i = 0; i < steps; ++i) {
    optimizer.options().lr = 1e-3 / (1 + i);
    if (i == Replay<CudaSim>::warm_up) diffusion.model().predict(preview, zero, zero);
    if (i == steps - 1) {
      const auto values = diffusion.model().parameters().values();
      affine(values, 0.5, 0, values);
      diffusion.model().parameters().changed();
    }
    run.losses.push_back(step(loader.next(), rng).value());
  }
  run.weights = diffusion.model().parameters().values().to_host();
  run.average = ema.model().parameters().values().to_host();
  run.first = optimizer.first().to_host();
  run.second = optimizer.second().to_host();
  CHECK(optimizer.steps() == steps);
  CHECK(ema.updates() == steps);
  return run;
}

}  // namespace

TEMPLATE_TEST_CASE("a recorded training step is the step, bit for bit", "", float, bf16) {
  const Run eager = train<TestType>([](auto& diffusion, auto& optimizer, auto& ema) {
    return [&](const auto& images, Rng& rng) {
      const auto loss = diffusion.train_step(images, rng);
      optimizer.step(ema);
      return loss;
    };
  });
  MemoryStats recorded;
  int launches = 0;
  const Run replayed = train<TestType>([&](auto& diffusion, auto& optimizer, auto& ema) {
    return [&, step = TrainingStep{diffusion, optimizer, &ema}](const auto& images, Rng& rng) mutable {
      const bool is_replay = step.is_recorded();
      const MemoryStats before = device.memory();
      const auto loss = step(images, rng);
      const MemoryStats after = device.memory();
      launches += is_replay;
      if (is_replay) CHECK(after.requests == before.requests);
      if (step.is_recorded()) CHECK(after.system_allocations == before.system_allocations);
      return loss;
    };
  });
  CHECK(launches == steps - Replay<CudaSim>::warm_up - 1);
  CHECK(replayed == eager);
  CHECK(eager.losses.front() != eager.losses.back());
}

TEST_CASE("a training step whose batch lies elsewhere is recorded anew") {
  Diffusion diffusion{trained_net(device), LinearSchedule{}};
  AdamW optimizer{diffusion.model(), {}};
  TrainingStep step{diffusion, optimizer};
  Rng rng{1};
  const auto labels = Tensor<std::int32_t, CudaSim>::zeros(device, {1});
  const auto one = Floats::zeros(device, {1, 8, 8, 3}), two = Floats::zeros(device, {1, 8, 8, 3});
  for (int i = 0; i <= Replay<CudaSim>::warm_up; ++i) step({.images = one, .labels = labels}, rng);
  CHECK(step.is_recorded());
  step({.images = two, .labels = labels}, rng);
  CHECK_FALSE(step.is_recorded());
}

namespace {

template <class T, class S>
void check_sampling(const S& sampler) {
  const Diffusion diffusion{trained_net<T>(device), LinearSchedule{}};
  const Denoiser denoiser = diffusion.with(diffusion.model());
  const Tensor<std::int32_t, CudaSim> labels(device, {batch}, std::vector<std::int32_t>{4});
  const Shape shape{batch, 8, 8, 3};

  auto by_hand = denoiser.begin(sampler, shape);
  by_hand.condition(labels);
  Rng rng{11};
  RandomPosition position = rng.next_images(batch, RandomStream::initial_noise);
  fill_normal(position, by_hand.x());
  position.stream = RandomStream::sampler_noise;
  while (by_hand.done() < by_hand.steps()) by_hand.step(position);

  std::vector<std::int64_t> requests;
  rng = Rng{11};
  const auto report = [&](const auto&) { requests.push_back(device.memory().requests); };
  const auto images = denoiser.sample(shape, rng, sampler, report, labels);
  CHECK(images.to_host() == by_hand.x().to_host());
  REQUIRE(requests.size() == 6);
  CHECK(requests[2] > requests[1]);
  for (std::size_t i = Replay<CudaSim>::warm_up + 1; i < requests.size(); ++i)
    CHECK(requests[i] == requests[i - 1]);
}

}  // namespace

TEST_CASE("a recorded sampling is the sampling, bit for bit") {
  check_sampling<float>(Ancestral{.steps = 6});
  check_sampling<bf16>(Ddim{.steps = 6, .eta = 0.5});
}

TEST_CASE("a trainer replays its batches, bit for bit") {
  const auto weights_after = [](auto&& train) {
    Diffusion diffusion{trained_net(device), LinearSchedule{}};
    Rng rng{3};
    ImageSet images{{}, {}, 5, 8, 8, 3};
    for (std::int64_t i = 0; i < images.count * images.image_size(); ++i)
      images.pixels.push_back(static_cast<std::uint8_t>(i * i * 31 % 251));
    images.labels.assign(5, 1);
    Loader loader{std::move(images), device, {.batch = 1, .classes = 5}, rng};
    train(diffusion, loader, rng);
    return diffusion.model().parameters().values().to_host();
  };
  std::int64_t requests[2];
  const auto replayed = weights_after([&](auto& diffusion, auto& loader, const Rng& rng) {
    Trainer trainer{diffusion, loader, {.accumulate = 2, .ema = {}}, rng};
    trainer.step();
    trainer.step();
    for (std::int64_t& count : requests) {
      count = device.memory().requests;
      trainer.train_batch();
    }
  });
  CHECK(requests[1] == requests[0]);  // within a step
  const auto eager = weights_after([](auto& diffusion, auto& loader, Rng rng) {
    AdamW optimizer{diffusion.model(), {.grad_clip = 1}};
    for (int step = 1; step <= 3; ++step) {
      for (int i = 0; i < 2; ++i) diffusion.train_step(loader.next(), rng);
      const auto gradients = diffusion.model().parameters().gradients();
      affine(gradients, 0.5, 0, gradients);
      optimizer.options().lr = LearningRate{}.at(step);
      optimizer.step();
    }
  });
  CHECK(replayed == eager);
}

// Run with DDPM_DEBUG=nan.
TEST_CASE("the first op that makes a NaN is named", "[.nan]") {
  REQUIRE(DebugOptions::get().nan);
  const auto labels = Tensor<std::int32_t, CudaSim>::zeros(device, {1});
  const auto images = Floats::zeros(device, {1, 8, 8, 3});
  const auto failure_at = [&](const std::string& broken) {
    Diffusion diffusion{trained_net(device), LinearSchedule{}};
    AdamW optimizer{diffusion.model(), {.grad_clip = 1}};
    TrainingStep step{diffusion, optimizer};
    diffusion.model().visit("", [&](const std::string& name, const auto& parameter) {
      if (name != broken) return;
      auto values = parameter.value().to_host();
      values.back() = NAN;
      parameter.value().upload(values);
    });
    Rng rng{1};
    try {
      for (int i = 0; i < Replay<CudaSim>::warm_up + 2; ++i) step({.images = images, .labels = labels}, rng);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string(step.is_recorded() ? "recorded" : "none");
  };
  CHECK(failure_at("") == "none");
  CHECK(contains(failure_at("down_blocks.0.resnets.0.norm2.bias"), "group_norm: element "));
  CHECK(contains(failure_at("down_blocks.0.resnets.0.norm2.bias"), "[1, 8, 8, 12] is not a number"));
  CHECK(contains(failure_at("conv_out.bias"), "conv2d: element 2 of an output [1, 8, 8, 3] is not"));
  CHECK(contains(failure_at("time_embedding.linear_1.weight"), "linear: element "));
}
