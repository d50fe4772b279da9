// SPDX-License-Identifier: MIT
// Noising, the reverse step, the loss, AdamW and activations: kernels against Reference, and the bytes they
// move.
#include <ddpm/ops/reference/activation.hpp>
#include <ddpm/ops/reference/adamw.hpp>
#include <ddpm/ops/reference/denoising.hpp>
#include <ddpm/ops/reference/loss.hpp>
#include <ddpm/ops/reference/noising.hpp>
#include <ddpm/ops/reference/reduce.hpp>

#include "op_test.hpp"
#include "pointwise_kernels.hpp"

using namespace ddpm;
using namespace ddpm::simt;

namespace {

constexpr double tolerance = 1e-5;

const Counters& counters() { return Executor::instance().counters(); }

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
    {1, 1, 1, 1, 0}, {2, 5, 7, 3, 0}, {3, 8, 8, 4, 0}, {2, 8, 8, 3, 1}, {2, 20, 20, 3, 0}};

struct NoisingKind {
  bool has_pixels, has_noise, flip;
  Prediction prediction;
};

template <class T>
void check_noising(const Size& size, const NoisingKind& kind) {
  const std::size_t count = size.count(), n = static_cast<std::size_t>(size.n);
  std::vector<std::uint8_t> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::uint8_t>(i * 37);
  Operand<T> x0(normal_values<T>(count, 1), size.offset), noise(normal_values<T>(count, 2), size.offset);
  Operand<std::uint8_t> pixels(bytes, size.offset);
  Operand<std::int32_t> t(std::vector<std::int32_t>(n, 1));
  Operand<float> signal({0.9f, 0.8f}), sigma({0.4358899f, 0.6f});
  Operand<T> xt(std::vector<T>(count), size.offset), target(std::vector<T>(count), size.offset);
  Noising<T> p{};
  p.position = {.seed = 7, .sample = 11, .step = 0, .stream = RandomStream::forward_noise};
  p.flip = kind.flip;
  p.prediction = kind.prediction;
  p.n = size.n, p.h = size.h, p.w = size.w, p.c = size.c;
  const auto on_device = [&] {
    Noising<T> q = p;
    q.x0 = kind.has_pixels ? nullptr : x0.device();
    q.pixels = kind.has_pixels ? pixels.device() : nullptr;
    q.noise = kind.has_noise ? noise.device() : nullptr;
    q.t = t.device(), q.signal = signal.device(), q.sigma = sigma.device();
    q.xt = xt.device(), q.target = target.device();
    return q;
  }();
  p.x0 = kind.has_pixels ? nullptr : x0.host();
  p.pixels = kind.has_pixels ? pixels.host() : nullptr;
  p.noise = kind.has_noise ? noise.host() : nullptr;
  p.t = t.host(), p.signal = signal.host(), p.sigma = sigma.host();
  p.xt = xt.host(), p.target = target.host();
  launch(Reference{}, p);
  run_everywhere(on_device, xt);
  CHECK(error_of(xt) < tolerance);
  CHECK(error_of(target) < tolerance);
}

// Parameters of the reverse step with one row of coefficients in use, the second.
std::vector<DenoisingCoefficients<float>> coefficients(float sigma) {
  return {{0, 0, 0, 0, 0, 0, 5}, {1.1f, -0.4f, 0.3f, 0.6f, 0.1f, sigma, 4}};
}

template <class T>
void check_denoising(std::size_t n, std::size_t per_sample, std::size_t offset, float sigma, bool has_noise) {
  const std::size_t count = n * per_sample;
  const std::vector<float> start = normal_values<float>(count, 3);
  Operand<float> x(start, offset);
  Operand<T> m(normal_values<T>(count, 4), offset), noise(normal_values<T>(count, 5), offset);
  Operand<T> x0(std::vector<T>(count), offset);
  Operand<DenoisingCoefficients<float>> table(coefficients(sigma));
  Operand<std::int32_t> step({1});
  const RandomPosition position{.seed = 3, .sample = 2, .step = 0, .stream = RandomStream::sampler_noise};
  const auto samples = static_cast<int>(n);
  const auto elements = static_cast<std::int64_t>(per_sample);
  launch(Reference{},
         Denoising<T>{x.host(), m.host(), table.host(), step.host(), 1.0f, has_noise ? noise.host() : nullptr,
                      position, x0.host(), samples, elements});
  for_all_schedules([&] {
    CudaSim{}.upload(x.device(), start.data(), count * sizeof(float));
    simt::kernels::run(Denoising<T>{x.device(), m.device(), table.device(), step.device(), 1.0f,
                                    has_noise ? noise.device() : nullptr, position, x0.device(), samples,
                                    elements});
    CHECK(error_of(x) < tolerance);
    CHECK(error_of(x0) < tolerance);
  });
}

template <class T>
void check_loss(std::size_t n, std::size_t per_sample, std::size_t offset, bool has_weight) {
  const std::size_t count = n * per_sample;
  Operand<T> prediction(normal_values<T>(count, 6), offset), target(normal_values<T>(count, 7), offset);
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

TEST_CASE("the reverse step") {
  for (const std::size_t per_sample : {1u, 13u, 1032u}) {
    check_denoising<float>(3, per_sample, 0, 0.5f, false);
    check_denoising<float>(2, per_sample, 1, 0.5f, true);
    check_denoising<float>(2, per_sample, 0, 0.0f, false);
    check_denoising<bf16>(3, per_sample, 0, 0.5f, false);
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
  for (const std::size_t per_sample : {1u, 30u, 64u}) {
    Operand<float> x(std::vector<float>(3 * per_sample));
    const auto elements = static_cast<std::int64_t>(per_sample);
    launch(Reference{}, FillNormal<float>{x.host(), position, 3, elements});
    run_everywhere(FillNormal<float>{x.device(), position, 3, elements}, x);
    CHECK(error_of(x) == 0);
  }
}

TEST_CASE("the loss and its gradient") {
  for (const std::size_t per_sample : {1u, 31u, 2052u}) {
    check_loss<float>(1, per_sample, 0, false);
    check_loss<float>(3, per_sample, 0, true);
    check_loss<bf16>(3, per_sample, 1, true);
  }
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

TEST_CASE("AdamW with clipping and EMA") {
  for (const std::size_t count : {1u, 997u, 2048u})
    for (const std::size_t offset : {0u, 1u})
      for (const bool clips : {false, true}) {
        const std::vector<float> start = normal_values<float>(count, 9),
                                 second = normal_values<float>(count, 12);
        std::vector<float> squares;
        for (const float value : second) squares.push_back(value * value);
        Operand<float> value(start, offset), gradient(normal_values<float>(count, 10), offset);
        Operand<float> first(normal_values<float>(count, 11), offset), square(squares, offset),
            average(start, offset);
        Operand<float> norm({50.0f});
        const AdamWOptions options{.lr = 0.01, .weight_decay = 0.1, .grad_clip = clips ? 1.0 : 0.0};
        const double correction1 = 1 - 0.9 * 0.9, correction2 = 1 - 0.999 * 0.999;
        const auto elements = static_cast<std::int64_t>(count);
        launch(Reference{}, AdamWUpdate<float>{value.host(), gradient.host(), first.host(), square.host(),
                                               average.host(), clips ? norm.host() : nullptr, options,
                                               correction1, correction2, 0.99, elements});
        simt::kernels::run(AdamWUpdate<float>{
            value.device(), gradient.device(), first.device(), square.device(), average.device(),
            clips ? norm.device() : nullptr, options, correction1, correction2, 0.99, elements});
        for (Operand<float>* result : {&value, &first, &square, &average})
          CHECK(error_of(*result) < tolerance);
        launch(Reference{}, EmaUpdate<float>{value.host(), average.host(), 0.5, elements});
        simt::kernels::run(EmaUpdate<float>{value.device(), average.device(), 0.5, elements});
        CHECK(error_of(average) < tolerance);
      }
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

TEST_CASE("pointwise kernels move no byte twice, in coalesced requests") {
  constexpr int n = 4;
  constexpr std::int64_t per_sample = 16 * 16 * 4, count = n * per_sample;
  const auto check_traffic = [](std::int64_t least_bytes) {
    CHECK(static_cast<double>(counters().global_bytes()) <= 1.02 * static_cast<double>(least_bytes));
    CHECK(counters().global_bytes() >= least_bytes);
    CHECK(counters().global_stores.sectors * sector_bytes == counters().global_stores.bytes);
  };
  const auto operand = [](unsigned seed) { return Operand<float>(normal_values<float>(count, seed)); };
  const auto x = operand(1), y = operand(2), z = operand(3);
  SECTION("noising") {
    const Operand<std::int32_t> t({0, 1, 1, 0});
    const Operand<float> signal({0.9f, 0.8f}), sigma({0.4f, 0.6f});
    Noising<float> p{};
    p.x0 = x.device(), p.t = t.device(), p.signal = signal.device(), p.sigma = sigma.device(),
    p.xt = y.device();
    p.n = n, p.h = 16, p.w = 16, p.c = 4;
    simt::kernels::run(p);
    check_traffic(2 * 4 * count);
  }
  SECTION("the reverse step") {
    const Operand<DenoisingCoefficients<float>> table(coefficients(0.5f));
    const Operand<std::int32_t> step({1});
    simt::kernels::run(Denoising<float>{
        x.device(), y.device(), table.device(), step.device(), 1.0f, nullptr, {}, nullptr, n, per_sample});
    check_traffic(3 * 4 * count);
  }
  SECTION("AdamW") {
    const auto first = operand(4), average = operand(5);
    Operand<float> second{std::vector<float>(static_cast<std::size_t>(count))};
    simt::kernels::run(AdamWUpdate<float>{y.device(),
                                          x.device(),
                                          first.device(),
                                          second.device(),
                                          average.device(),
                                          nullptr,
                                          {},
                                          0.1,
                                          0.001,
                                          0.99,
                                          count});
    check_traffic(9 * 4 * count);
  }
  SECTION("SiLU") {
    simt::kernels::run(SiluForward<float>{x.device(), y.device(), count});
    check_traffic(2 * 4 * count);
    CHECK(counters().global_loads.requests == count / 4 / 32);
    CHECK(counters().global_loads.sectors == 16 * counters().global_loads.requests);  // 4 for each 128 bytes
  }
}
