// SPDX-License-Identifier: MIT
#include <ddpm/ops/cpu/bf16.hpp>
#include <ddpm/ops/reference/denoising.hpp>
#include <ddpm/ops/reference/noising.hpp>

#include "cpu_support.hpp"

using namespace ddpm;
using namespace cpu_support;

namespace {

const RandomPosition position{0xfedcba9876543210ull, 0xfffffffdull, 0, RandomStream::forward_noise};

// The functions under the normals, at the least and the largest uniform and near every quadrant.
struct Functions {
  const float* x;
  float* log;
  float* sine;
  float* cosine;
  int count;
  template <class V>
  [[gnu::always_inline]] static void run(const Functions& p) {
    for (int i = 0; i < p.count; i += V::width) {
      detail::cpu::Floats<V> x, l, s, c;
      detail::cpu::load(x, p.x + i);
      detail::cpu::log_lanes<V>(l, x);
      detail::cpu::sincos_lanes<V>(s, c, x * 6.283185307f);
      detail::cpu::store(p.log + i, l);
      detail::cpu::store(p.sine + i, s);
      detail::cpu::store(p.cosine + i, c);
    }
  }
};

}  // namespace

TEST_CASE("cpu: random words are those of Philox", "[cpu][noise]") {
  const Restore restore;
  for (const auto isa : isas()) {
    detail::cpu::pin_isa(isa);
    for (const int count : {1, 4, 7, 64, 333}) {
      std::vector<std::uint32_t> words(static_cast<std::size_t>(count + 3) / 4 * 4);
      detail::cpu::draw_words(position, 20, count, words.data());
      bool equal = true;
      for (std::size_t i = 0; i < words.size(); ++i)
        equal &= words[i] == random_words(position, static_cast<std::uint32_t>(5 + i / 4)).word[i % 4];
      CHECK(equal);
    }
  }
}

TEMPLATE_TEST_CASE("samples are counted from an origin in memory", "[cpu][noise]", Cpu, Reference) {
  const TestType device{};
  const std::uint64_t origin = 0xfffffff0u;
  const RandomPosition near{position.seed, position.sample - origin, 0, position.stream, &origin};
  Floats x(3 * 64), from_origin(3 * 64);
  launch(device, FillNormal<float>{x.data(), position, 3, 64});
  launch(device, FillNormal<float>{from_origin.data(), near, 3, 64});
  CHECK(x == from_origin);
  std::vector<std::int32_t> t(5), t_from_origin(5);
  launch(device, DrawTimesteps{t.data(), position, 5, 1000});
  launch(device, DrawTimesteps{t_from_origin.data(), near, 5, 1000});
  CHECK(t == t_from_origin);
}

TEST_CASE("cpu: normals at the ends of the uniforms", "[cpu][noise]") {
  Floats x{0x1p-33f,    0x1p-32f, 1e-5f,  0.125f, 0.25f,        0.375f,       0.5f, 0.625f,
           0.70710678f, 0.75f,    0.875f, 0.999f, 1 - 0x1p-23f, 1 - 0x1p-24f, 1,    0.3f};
  const Restore restore;
  for (const auto isa : isas()) {
    detail::cpu::pin_isa(isa);
    Floats log(16), sine(16), cosine(16);
    detail::cpu::run_leaf<Functions>(Functions{x.data(), log.data(), sine.data(), cosine.data(), 16});
    for (std::size_t i = 0; i < 16; ++i) {
      const auto angle = static_cast<double>(6.283185307f * x[i]);
      const double exact = std::log(static_cast<double>(x[i]));
      CHECK(std::abs(static_cast<double>(log[i]) - exact) <= 2e-7 * std::abs(exact));
      CHECK(std::abs(static_cast<double>(sine[i]) - std::sin(angle)) <= 2e-7);
      CHECK(std::abs(static_cast<double>(cosine[i]) - std::cos(angle)) <= 2e-7);
    }
  }
}

TEMPLATE_TEST_CASE("cpu: add_noise of images and bytes, drawn or given noise, mirrored or not",
                   "[cpu][noising]", float, bf16) {
  using T = TestType;
  struct Extent {
    int n, h, w, c;
  };
  for (const Extent& e : {Extent{1, 1, 1, 1}, {5, 3, 7, 3}, {4, 28, 28, 1}, {3, 32, 32, 3}}) {
    const auto count = static_cast<std::size_t>(e.n * e.h * e.w * e.c);
    const Floats x0 = uniform(count, 1), given = uniform(count, 2), signal = uniform(10, 3, 0, 1),
                 sigma = uniform(10, 4, 0, 1);
    std::vector<std::uint8_t> pixels(count);
    for (std::size_t i = 0; i < count; ++i) pixels[i] = static_cast<std::uint8_t>(i * 37);
    std::vector<std::int32_t> t;
    for (int n = 0; n < e.n; ++n) t.push_back(n * 3 % 10);
    for (const Prediction prediction : {Prediction::epsilon, Prediction::sample, Prediction::v})
      for (const bool flip : {false, true})
        check_against_reference(message("add_noise of ", Shape{e.n, e.h, e.w, e.c}), [&](const auto& device) {
          Outputs out;
          for (const bool bytes : {false, true})
            for (const bool drawn : {false, true}) {
              Floats xt(count), target(count);
              std::vector<T> model_input(count), alone(count);
              Noising<T> p{bytes ? nullptr : x0.data(),
                           bytes ? pixels.data() : nullptr,
                           drawn ? nullptr : given.data(),
                           t.data(),
                           signal.data(),
                           sigma.data(),
                           position,
                           flip,
                           prediction,
                           xt.data(),
                           drawn ? target.data() : nullptr,
                           e.n,
                           e.h,
                           e.w,
                           e.c};
              launch(device, p);
              out.push_back(xt);
              out.push_back(target);
              p.model_input = model_input.data();
              launch(device, p);
              p.xt = nullptr, p.model_input = alone.data();
              launch(device, p);
              CHECK(xt == out[out.size() - 2]);
              CHECK(model_input == rounded<T>(xt));
              CHECK(alone == model_input);
            }
          return out;
        });
  }
}

TEST_CASE("cpu: time steps are those of Reference", "[cpu][noising]") {
  std::vector<std::int32_t> a(100), b(100);
  launch(Reference{}, DrawTimesteps{a.data(), position, 100, 1000});
  launch(Cpu{}, DrawTimesteps{b.data(), position, 100, 1000});
  CHECK(a == b);
}

TEMPLATE_TEST_CASE("cpu: the reverse step", "[cpu][denoising]", float, bf16) {
  using T = TestType;
  const std::pair<int, int> shapes[] = {{1, 1}, {3, 5}, {2, 3072}, {2, 5003}};
  const float infinity = std::numeric_limits<float>::infinity();
  const DenoisingCoefficients<float> table[] = {{1.1f, -0.4f, 0.3f, 0.6f, 0.1f, 0.2f, 999},
                                                {1.5f, -0.9f, 0.7f, 0.2f, 0.0f, 0.0f, 500}};
  for (const auto& [n, per_sample] : shapes) {
    const auto count = static_cast<std::size_t>(n) * static_cast<std::size_t>(per_sample);
    const Floats x = uniform(count, 1), noise = uniform(count, 3);
    const std::vector<T> m = rounded<T>(uniform(count, 2));
    check_against_reference(message("denoise ", n, " x ", per_sample), [&, n = n, per_sample = per_sample](
                                                                           const auto& device) {
      Outputs out;
      for (const float clip : {1.0f, infinity})
        for (const std::int32_t step : {0, 1})
          for (const bool drawn : {false, true}) {
            Floats next = x, x0(count);
            std::vector<T> model_input(count);
            launch(device, Denoising<T>{next.data(), m.data(), table, &step, clip,
                                        drawn ? nullptr : noise.data(), position, drawn ? x0.data() : nullptr,
                                        n, per_sample, drawn ? nullptr : model_input.data()});
            out.push_back(next);
            out.push_back(x0);
            if (!drawn) CHECK(model_input == rounded<T>(next));
          }
      return out;
    });
    check_against_reference(message("fill_normal ", n, " x ", per_sample),
                            [&, n = n, per_sample = per_sample](const auto& device) {
                              Outputs out{Floats(count)};
                              launch(device, FillNormal<float>{out[0].data(), position, n, per_sample});
                              return out;
                            });
  }
  std::int32_t step = -1, t[3] = {};
  launch(Cpu{}, BeginStep<float>{table, &step, t, 3});
  CHECK(step == 0);
  CHECK((t[0] == 999 && t[1] == 999 && t[2] == 999));
}
