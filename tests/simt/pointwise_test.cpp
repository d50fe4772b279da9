// SPDX-License-Identifier: MIT
// Noising, the reverse step, the loss, AdamW and activations: kernels against Reference.
#include <ddpm/ops/reference/activation.hpp>
#include <ddpm/ops/reference/adamw.hpp>
#include <ddpm/ops/reference/denoising.hpp>
#include <ddpm/ops/reference/loss.hpp>
#include <ddpm/ops/reference/noising.hpp>
#include <ddpm/ops/reference/reduce.hpp>

#include <bit>

#include "op_test.hpp"
#include "pointwise_kernels.hpp"

using namespace ddpm;
using namespace ddpm::simt;

namespace {

constexpr double tolerance = 1e-5;

// Runs under every schedule; the results must have the same bits each time.
template <class Params, class T>
void run_everywhere(const Params& params, const Operand<T>& result) {
  std::vector<T> first;
  for_all_schedules([&] {
    simt::kernels::run(params);
    const std::vector<T> values = result.device_values();
    if (first.empty()) first = values;
    REQUIRE(std::memcmp(first.data(), values.data(), values.size() * sizeof(T)) == 0);
  });
}

struct Size {
  int n, h, w, c;
  std::size_t offset;  // of the operands, in elements
  std::size_t count() const { return static_cast<std::size_t>(n) * static_cast<std::size_t>(h * w * c); }
};

const std::vector<Size> sizes = {
    {1, 1, 1, 1, 0}, {5, 5, 7, 3, 0}, {3, 8, 8, 4, 0}, {2, 8, 8, 3, 1}, {2, 20, 20, 3, 0}};

struct NoisingKind {
  bool has_pixels, has_noise, flip;
  Prediction prediction;
};

template <class T>
std::vector<T> rounded(const Operand<float>& operand) {
  const std::vector<float> values = operand.device_values();
  return {values.begin(), values.end()};
}

template <class T>
void check_noising(const Size& size, const NoisingKind& kind) {
  const std::size_t count = size.count(), n = static_cast<std::size_t>(size.n);
  std::vector<std::uint8_t> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::uint8_t>(i * 37);
  Operand<float> x0(normal_values<float>(count, 1), size.offset);
  Operand<float> noise(normal_values<float>(count, 2), size.offset);
  Operand<std::uint8_t> pixels(bytes, size.offset);
  Operand<std::int32_t> t(std::vector<std::int32_t>(n, 1));
  Operand<float> signal({0.9f, 0.8f}), sigma({0.4358899f, 0.6f});
  Operand<float> xt(std::vector<float>(count), size.offset), target(std::vector<float>(count), size.offset);
  Operand<T> model_input(std::vector<T>(count), size.offset + kind.has_noise);
  Noising<T> p{};
  // Of five samples from 12 on, the first and the last are flipped, so that reading beyond the last would be seen.
  p.position = {.seed = 7, .sample = 12, .step = 0, .stream = RandomStream::forward_noise};
  p.flip = kind.flip;
  p.prediction = kind.prediction;
  p.n = size.n, p.h = size.h, p.w = size.w, p.c = size.c;
  Noising<T> on_device = [&] {
    Noising<T> q = p;
    q.x0 = kind.has_pixels ? nullptr : x0.device();
    q.pixels = kind.has_pixels ? pixels.device() : nullptr;
    q.noise = kind.has_noise ? noise.device() : nullptr;
    q.t = t.device(), q.signal = signal.device(), q.sigma = sigma.device();
    q.xt = xt.device(), q.target = target.device(), q.model_input = model_input.device();
    return q;
  }();
  p.x0 = kind.has_pixels ? nullptr : x0.host();
  p.pixels = kind.has_pixels ? pixels.host() : nullptr;
  p.noise = kind.has_noise ? noise.host() : nullptr;
  p.t = t.host(), p.signal = signal.host(), p.sigma = sigma.host();
  p.xt = xt.host(), p.target = target.host(), p.model_input = model_input.host();
  launch(Reference{}, p);
  run_everywhere(on_device, xt);
  CHECK(error_of(xt) < tolerance);
  CHECK(error_of(target) < tolerance);
  CHECK(error_of(model_input) < tolerance);
  CHECK(model_input.device_values() == rounded<T>(xt));
  model_input.restore();
  on_device.xt = nullptr;
  simt::kernels::run(on_device);
  CHECK(model_input.device_values() == rounded<T>(xt));
}

// Parameters of the reverse step with one row of coefficients in use, the second.
std::vector<DenoisingCoefficients<float>> coefficients(float sigma) {
  return {{0, 0, 0, 0, 0, 0, 5}, {1.1f, -0.4f, 0.3f, 0.6f, 0.1f, sigma, 4}};
}

template <class T>
void check_denoising(std::size_t n, std::size_t per_sample, std::size_t offset, float sigma, bool has_noise) {
  const std::size_t count = n * per_sample;
  Operand<float> x(normal_values<float>(count, 3), offset), noise(normal_values<float>(count, 5), offset);
  Operand<float> x0(std::vector<float>(count), offset);
  Operand<T> m(normal_values<T>(count, 4), offset), model_input(std::vector<T>(count), offset + has_noise);
  Operand<DenoisingCoefficients<float>> table(coefficients(sigma));
  Operand<std::int32_t> step({1});
  const RandomPosition position{.seed = 3, .sample = 2, .step = 0, .stream = RandomStream::sampler_noise};
  const auto samples = static_cast<int>(n);
  const auto elements = static_cast<std::int64_t>(per_sample);
  launch(Reference{},
         Denoising<T>{x.host(), m.host(), table.host(), step.host(), 1.0f, has_noise ? noise.host() : nullptr,
                      position, x0.host(), samples, elements, model_input.host()});
  for_all_schedules([&] {
    x.restore();
    simt::kernels::run(Denoising<T>{x.device(), m.device(), table.device(), step.device(), 1.0f,
                                    has_noise ? noise.device() : nullptr, position, x0.device(), samples,
                                    elements, model_input.device()});
    CHECK(error_of(x) < tolerance);
    CHECK(error_of(x0) < tolerance);
    CHECK(error_of(model_input) < tolerance);
    CHECK(model_input.device_values() == rounded<T>(x));
  });
}

template <class T>
void check_loss(std::size_t n, std::size_t per_sample, std::size_t offset, bool has_weight) {
  const std::size_t count = n * per_sample;
  Operand<T> prediction(normal_values<T>(count, 6), offset);
  Operand<float> target(normal_values<float>(count, 7), offset);
  Operand<float> weight(normal_values<float>(n, 8)), loss({0.0f});
  Operand<T> gradient(std::vector<T>(count), offset);
  const auto samples = static_cast<int>(n);
  const auto elements = static_cast<std::int64_t>(per_sample);
  launch(Reference{}, MseLoss<T>{prediction.host(), target.host(), has_weight ? weight.host() : nullptr,
                                 loss.host(), gradient.host(), samples, elements});
  run_everywhere(MseLoss<T>{prediction.device(), target.device(), has_weight ? weight.device() : nullptr,
                            loss.device(), gradient.device(), samples, elements},
                 loss);
  CHECK(error_of(loss) < tolerance);
  CHECK(error_of(gradient) < tolerance);
}

// The loss of a stored target, which is the noise, and that of the noise drawn again.
template <class T>
void check_loss_of_noise(std::size_t per_sample, std::size_t offset) {
  constexpr std::size_t n = 3;
  const std::size_t count = n * per_sample;
  const auto elements = static_cast<std::int64_t>(per_sample);
  Operand<T> prediction(normal_values<T>(count, 6), offset);
  Operand<float> xt(normal_values<float>(count, 7), offset), target(std::vector<float>(count), offset);
  Operand<T> gradient(std::vector<T>(count), offset), gradient_again(std::vector<T>(count), offset);
  Operand<float> weight(normal_values<float>(n, 8)), loss({0.0f}), loss_again({1.0f}), one({1.0f});
  Operand<std::int32_t> t({0, 0, 0});
  const auto run_on = [&](auto at, auto run) {
    Noising<T> noising{};
    noising.x0 = at(xt), noising.t = at(t), noising.signal = noising.sigma = at(one);
    noising.position = {.seed = 7, .sample = 11, .step = 0, .stream = RandomStream::forward_noise};
    noising.xt = at(xt), noising.target = at(target);
    noising.n = n, noising.h = 1, noising.w = static_cast<int>(per_sample), noising.c = 1;
    run(noising);
    MseLoss<T> p{at(prediction), at(target), at(weight), at(loss), at(gradient), n, elements};
    run(p);
    p.target = nullptr, p.position = noising.position;
    p.loss = at(loss_again), p.dprediction = at(gradient_again);
    run(p);
  };
  run_on(on_host, [](const auto& p) { launch(Reference{}, p); });
  CHECK(*loss.host() == *loss_again.host());
  CHECK(std::memcmp(gradient.host(), gradient_again.host(), count * sizeof(T)) == 0);
  run_on(on_device, [](const auto& p) { simt::kernels::run(p); });
  CHECK(loss.device_values() == loss_again.device_values());
  CHECK(gradient.device_values() == gradient_again.device_values());
  CHECK(error_of(loss_again) < tolerance);
  CHECK(error_of(gradient_again) < tolerance);
}

// With and without the optional operands: the squared norm, the average and the copy.
void check_adamw(std::size_t count, std::size_t offset, bool has_options) {
  const std::vector<float> start = normal_values<float>(count, 9), second = normal_values<float>(count, 12);
  std::vector<float> squares;
  for (const float value : second) squares.push_back(value * value);
  Operand<float> value(start, offset), gradient(normal_values<float>(count, 10), offset);
  Operand<float> first(normal_values<float>(count, 11), offset), square(squares, offset),
      average(start, offset);
  Operand<bf16> copy(std::vector<bf16>(count), offset);
  Operand<float> norm({50.0f});
  const AdamWOptions options{.lr = 0.01, .eps = 0.1, .weight_decay = 0.1, .grad_clip = 1.0};
  Operand<AdamWStep> step({adamw_step(options, 2, 0.99)});
  Operand<double> decay({0.5});
  AdamWUpdate<float> p{.value = value.host(),
                       .gradient = gradient.host(),
                       .first = first.host(),
                       .second = square.host(),
                       .average = has_options ? average.host() : nullptr,
                       .copy = has_options ? copy.host() : nullptr,
                       .squared_norm = has_options ? norm.host() : nullptr,
                       .step = step.host(),
                       .options = options,
                       .count = static_cast<std::int64_t>(count)};
  launch(Reference{}, p);
  p.value = value.device(), p.gradient = gradient.device(), p.first = first.device(),
  p.second = square.device();
  p.average = has_options ? average.device() : nullptr;
  p.copy = has_options ? copy.device() : nullptr;
  p.squared_norm = has_options ? norm.device() : nullptr;
  p.step = step.device();
  simt::kernels::run(p);
  for (Operand<float>* result : {&value, &first, &square, &average}) CHECK(error_of(*result) < tolerance);
  CHECK(error_of(copy) < tolerance);
  launch(Reference{}, EmaUpdate<float>{value.host(), average.host(), decay.host(), p.count});
  simt::kernels::run(EmaUpdate<float>{value.device(), average.device(), decay.device(), p.count});
  CHECK(error_of(average) < tolerance);
}

}  // namespace

TEST_CASE("noising") {
  for (const Size& size : sizes) {
    check_noising<float>(size, {false, false, false, Prediction::epsilon});
    check_noising<float>(size, {true, false, true, Prediction::v});
    check_noising<float>(size, {false, true, true, Prediction::sample});
    check_noising<bf16>(size, {true, false, false, Prediction::epsilon});
    check_noising<bf16>(size, {false, true, true, Prediction::v});
  }
}

TEST_CASE("time steps are those of the host, integer for integer") {
  Operand<std::int32_t> t(std::vector<std::int32_t>(300));
  const RandomPosition position{.seed = 1, .sample = 5, .step = 0, .stream = RandomStream::timestep};
  launch(Reference{}, DrawTimesteps{t.host(), position, 300, 1000});
  simt::kernels::run(DrawTimesteps{t.device(), position, 300, 1000});
  CHECK(std::equal(t.host(), t.host() + 300, t.device_values().begin()));
}

TEST_CASE("samples are counted from an origin on the device") {
  constexpr std::uint64_t first = 0xfffffffeu;  // the third sample needs more than 32 bits
  const Operand<std::uint64_t> origin({first - 1});
  const RandomPosition position{9, first, 0, RandomStream::forward_noise};
  const RandomPosition from_origin{9, 1, 0, RandomStream::forward_noise, origin.device()};
  Operand<std::int32_t> t(std::vector<std::int32_t>(3));
  launch(Reference{}, DrawTimesteps{t.host(), position, 3, 1000});
  simt::kernels::run(DrawTimesteps{t.device(), from_origin, 3, 1000});
  CHECK(std::equal(t.host(), t.host() + 3, t.device_values().begin()));
  Operand<float> x(std::vector<float>(3 * 8));
  launch(Reference{}, FillNormal<float>{x.host(), position, 3, 8});
  run_everywhere(FillNormal<float>{x.device(), from_origin, 3, 8}, x);
  CHECK(error_of(x) == 0);
}

TEST_CASE("the reverse step") {
  for (const std::size_t per_sample : {1u, 13u, 1032u}) {
    check_denoising<float>(3, per_sample, 0, 0.5f, false);
    check_denoising<float>(2, per_sample, 1, 0.5f, true);
    check_denoising<float>(2, per_sample, 0, 0.0f, false);
    check_denoising<bf16>(3, per_sample, 0, 0.5f, false);
    check_denoising<bf16>(2, per_sample, 0, 0.5f, true);
  }
}

TEST_CASE("a sampling loop advances its counter on the device") {
  Operand<DenoisingCoefficients<float>> table(coefficients(0));
  Operand<std::int32_t> step({-1}), t(std::vector<std::int32_t>(300));
  for (const std::int32_t expected : {5, 4}) {
    simt::kernels::run(BeginStep<float>{table.device(), step.device(), t.device(), 300});
    CHECK(t.device_values() == std::vector<std::int32_t>(300, expected));
  }
  CHECK(step.device_values()[0] == 1);
}

TEST_CASE("normal noise is that of the host") {
  const RandomPosition position{.seed = 9, .sample = 1, .step = 0, .stream = RandomStream::initial_noise};
  const auto check_fill = [&](int n, std::int64_t per_sample) {
    Operand<float> x(std::vector<float>(static_cast<std::size_t>(n * per_sample)));
    launch(Reference{}, FillNormal<float>{x.host(), position, n, per_sample});
    run_everywhere(FillNormal<float>{x.device(), position, n, per_sample}, x);
    CHECK(error_of(x) == 0);
  };
  for (const int per_sample : {1, 30, 64}) check_fill(3, per_sample);
}

TEST_CASE("the loss and its gradient") {
  for (const std::size_t per_sample : {1u, 31u, 2052u}) {
    check_loss<float>(1, per_sample, 0, false);
    check_loss<float>(3, per_sample, 0, true);
    check_loss<bf16>(3, per_sample, 1, true);
  }
}

TEST_CASE("a loss without a target draws the noise again, bit for bit") {
  for (const std::size_t per_sample : {1u, 31u, 2052u}) {
    check_loss_of_noise<float>(per_sample, 0);
    check_loss_of_noise<bf16>(per_sample, 1);
  }
}

TEST_CASE("more samples than a grid has blocks for") {
  constexpr int n = 1027;
  const auto position = [](RandomStream stream) { return RandomPosition{7, 11, 0, stream}; };
  Operand<float> x(normal_values<float>(n, 1)), noise{std::vector<float>(n)}, xt{std::vector<float>(n)};
  Operand<float> gradient{std::vector<float>(n)}, loss({0}), scale({0.6f});
  Operand<std::int32_t> t{std::vector<std::int32_t>(n)}, step({1});
  Operand<DenoisingCoefficients<float>> table(coefficients(0.5f));
  const auto run_on = [&](auto at, auto run) {
    run(FillNormal<float>{at(noise), position(RandomStream::initial_noise), n, 1});
    Noising<float> noising{};
    noising.x0 = at(x), noising.noise = at(noise), noising.t = at(t), noising.xt = at(xt);
    noising.signal = noising.sigma = at(scale);
    noising.n = n, noising.h = noising.w = noising.c = 1;
    run(noising);
    run(Denoising<float>{at(x), at(xt), at(table), at(step), 1.0f, nullptr,
                         position(RandomStream::sampler_noise), nullptr, n, 1});
    run(MseLoss<float>{at(x), at(xt), nullptr, at(loss), at(gradient), n, 1});
  };
  run_on(on_host, [](const auto& p) { launch(Reference{}, p); });
  run_on(on_device, [](const auto& p) { simt::kernels::run(p); });
  for (Operand<float>* result : {&noise, &xt, &x, &gradient, &loss}) CHECK(error_of(*result) < tolerance);
}

TEST_CASE("the squared norm of all gradients") {
  for (const std::size_t count : {0u, 1u, 1021u, 9000u})
    for (const std::size_t offset : {0u, 1u}) {
      Operand<float> x(normal_values<float>(count, 15), offset), norm({-1.0f});
      const auto elements = static_cast<std::int64_t>(count);
      launch(Reference{}, SquaredNorm<float>{x.host(), norm.host(), elements});
      run_everywhere(SquaredNorm<float>{x.device(), norm.device(), elements}, norm);
      CHECK(error_of(norm) < tolerance);
    }
}

TEST_CASE("the squared norm of more elements than its blocks take at once") {
  if (Executor::instance().has_hooks()) return;  // too slow with them
  constexpr std::size_t count = (1u << 20) + 517;
  Operand<float> x(normal_values<float>(count, 16)), norm({-1.0f});
  launch(Reference{}, SquaredNorm<float>{x.host(), norm.host(), count});
  simt::kernels::run(SquaredNorm<float>{x.device(), norm.device(), count});
  CHECK(error_of(norm) < tolerance);
}

TEST_CASE("AdamW with clipping, EMA and a bf16 copy") {
  for (const std::size_t count : {1u, 997u, 2048u})
    for (const std::size_t offset : {0u, 1u})
      for (const bool has_options : {false, true}) check_adamw(count, offset, has_options);
}

TEST_CASE("AdamW rounds the bf16 copy to nearest even") {
  // lr = 0 keeps the weights: halfway above an even and above an odd bf16, and as near to that as a float is.
  const std::vector<std::uint32_t> words{0x3f808000, 0x3f818000, 0x3f808001, 0x3f817fff, 0xbf818000};
  const std::vector<std::uint16_t> expected{0x3f80, 0x3f82, 0x3f81, 0x3f81, 0xbf82};
  std::vector<float> weights;
  for (const std::uint32_t word : words) weights.push_back(std::bit_cast<float>(word));
  const Operand<float> value(weights), zeros{std::vector<float>(words.size())};
  const Operand<bf16> copy{std::vector<bf16>(words.size())};
  const Operand<AdamWStep> step({adamw_step({.lr = 0}, 1)});
  simt::kernels::run(AdamWUpdate<float>{.value = value.device(),
                                        .gradient = zeros.device(),
                                        .first = zeros.device(),
                                        .second = zeros.device(),
                                        .average = nullptr,
                                        .copy = copy.device(),
                                        .squared_norm = nullptr,
                                        .step = step.device(),
                                        .options = {.lr = 0},
                                        .count = static_cast<std::int64_t>(words.size())});
  const std::vector<bf16> rounded = copy.device_values();
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(rounded[i].bits == expected[i]);
}

TEMPLATE_TEST_CASE("SiLU and softmax", "", float, bf16) {
  using T = TestType;
  for (const std::size_t cols : {1u, 33u, 300u}) {
    constexpr std::size_t rows = 11;
    for (const std::size_t offset : {0u, 1u}) {
      Operand<T> x(normal_values<T>(rows * cols, 13), offset), dy(normal_values<T>(rows * cols, 14), offset);
      Operand<T> y(std::vector<T>(rows * cols), offset), dx(std::vector<T>(rows * cols), offset);
      const auto count = static_cast<std::int64_t>(rows * cols);
      launch(Reference{}, SiluForward<T>{x.host(), y.host(), count});
      run_everywhere(SiluForward<T>{x.device(), y.device(), count}, y);
      CHECK(error_of(y) < tolerance);
      launch(Reference{}, SiluBackward<T>{x.host(), dy.host(), dx.host(), count});
      run_everywhere(SiluBackward<T>{x.device(), dy.device(), dx.device(), count}, dx);
      CHECK(error_of(dx) < tolerance);
      launch(Reference{}, SoftmaxForward<T>{x.host(), y.host(), rows, static_cast<int>(cols)});
      run_everywhere(SoftmaxForward<T>{x.device(), y.device(), rows, static_cast<int>(cols)}, y);
      CHECK(error_of(y) < tolerance);
      launch(Reference{}, SoftmaxBackward<T>{x.host(), dy.host(), dx.host(), rows, static_cast<int>(cols)});
      run_everywhere(SoftmaxBackward<T>{x.device(), dy.device(), dx.device(), rows, static_cast<int>(cols)},
                     dx);
      CHECK(error_of(dx) < tolerance);
    }
  }
}
