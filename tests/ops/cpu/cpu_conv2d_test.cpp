// SPDX-License-Identifier: MIT
// The host convolution and linear layer against Reference: every pass, option, instruction set and mode.
#include <ddpm/ops/cpu/conv2d.hpp>
#include <ddpm/ops/cpu/linear.hpp>
#include <ddpm/ops/reference/conv2d.hpp>
#include <ddpm/ops/reference/linear.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "catch_shim.hpp"

namespace {

using namespace ddpm;
using detail::cpu::Isa;
using Values = std::vector<float>;

constexpr double direct_limit = 1e-5;
constexpr double fast_limit = 3e-5;  // of Cpu::Convolution::fast

Values random_values(std::int64_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  Values values(static_cast<std::size_t>(count));
  for (float& value : values) value = uniform(engine);
  return values;
}

double relative_error(const Values& a, const Values& b) {
  double error = 0, scale = 1e-30;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i])) return INFINITY;
    error = std::max(error, std::abs(double{a[i]} - double{b[i]}));
    scale = std::max(scale, std::abs(double{b[i]}));
  }
  return error / scale;
}

struct Case {
  int n, h, w, c, c2, cout, kernel;
  Conv2dOptions options = {};
};

Conv2dGeometry geometry(const Case& k) {
  const Conv2dOptions& o = k.options;
  Conv2dGeometry g{k.n,      k.h,         k.w,       k.c,        k.c2, k.cout, k.kernel,
                   o.stride, o.pad_begin, o.pad_end, o.upsample, 0,    0};
  g.p = detail::conv2d_extent(k.h, k.kernel, o);
  g.q = detail::conv2d_extent(k.w, k.kernel, o);
  return g;
}

struct Inputs {
  Values x, x2, weight, bias, add, residual, dy, dweight, dbias;

  explicit Inputs(const Conv2dGeometry& g)
      : x(random_values(std::int64_t{g.n} * g.h * g.w * g.c, 1)),
        x2(random_values(std::int64_t{g.n} * g.h * g.w * g.c2, 2)),
        weight(random_values(std::int64_t{g.cout} * g.taps() * g.channels(), 3)),
        bias(random_values(g.cout, 4)),
        add(random_values(std::int64_t{g.n} * g.cout, 5)),
        residual(random_values(g.pixels() * g.cout, 6)),
        dy(random_values(g.pixels() * g.cout, 7)),
        dweight(random_values(std::int64_t{g.cout} * g.taps() * g.channels(), 8)),
        dbias(random_values(g.cout, 9)) {}
};

struct Outputs {
  Values y, plain_y, dx, dx2, dx_in_place, dweight, dbias;

  friend bool operator==(const Outputs&, const Outputs&) = default;
};

float* or_null(Values& v) { return v.empty() ? nullptr : v.data(); }
const float* or_null(const Values& v) { return v.empty() ? nullptr : v.data(); }

Values prepare(const Cpu& device, const Conv2dGeometry& g, Conv2dPass pass, const Values& weight) {
  Values prepared(static_cast<std::size_t>(conv2d_prepared_size<float>(device, g, pass)), NAN);
  launch(device, Conv2dPrepare<float>{g, pass, weight.data(), prepared.data()});
  return prepared;
}

template <class D>
Outputs run(const D& device, const Conv2dGeometry& g, const Inputs& in, const Values& forward = {},
            const Values& backward = {}) {
  Outputs out{Values(in.dy.size(), NAN),
              Values(in.dy.size(), NAN),
              Values(in.x.size(), NAN),
              Values(in.x2.size(), NAN),
              in.x,
              in.dweight,
              in.dbias};
  const Conv2dForward<float> call{g,
                                  in.x.data(),
                                  or_null(in.x2),
                                  in.weight.data(),
                                  or_null(forward),
                                  in.bias.data(),
                                  in.add.data(),
                                  in.residual.data(),
                                  0.7f,
                                  out.y.data()};
  launch(device, call);
  launch(device, Conv2dForward<float>{g, in.x.data(), or_null(in.x2), in.weight.data(), or_null(forward),
                                      nullptr, nullptr, nullptr, 1.0f, out.plain_y.data()});
  launch(device, Conv2dBackwardData<float>{g, in.dy.data(), in.weight.data(), or_null(backward),
                                           out.dx.data(), or_null(out.dx2)});
  if (g.c2 == 0)
    launch(device, Conv2dBackwardData<float>{g, in.dy.data(), in.weight.data(), or_null(backward),
                                             out.dx_in_place.data(), nullptr, out.dx_in_place.data()});
  launch(device, Conv2dBackwardWeight<float>{g, in.x.data(), or_null(in.x2), in.dy.data(), out.dweight.data(),
                                             out.dbias.data()});
  return out;
}

void require_close(const Outputs& found, const Outputs& expected, double limit) {
  CHECK(relative_error(found.y, expected.y) <= limit);
  CHECK(relative_error(found.plain_y, expected.plain_y) <= limit);
  CHECK(relative_error(found.dx, expected.dx) <= limit);
  CHECK(relative_error(found.dx2, expected.dx2) <= limit);
  CHECK(relative_error(found.dx_in_place, expected.dx_in_place) <= limit);
  CHECK(relative_error(found.dweight, expected.dweight) <= limit);
  CHECK(relative_error(found.dbias, expected.dbias) <= limit);
}

struct Mode {
  Cpu::Convolution convolution;
  const char* name;
  double limit;
};
const Mode modes[] = {{Cpu::Convolution::exact, "exact", direct_limit},
                      {Cpu::Convolution::automatic, "automatic", direct_limit},
                      {Cpu::Convolution::fast, "fast", fast_limit}};

// Pins an instruction set; the best of the machine comes back at the end.
struct PinnedIsa {
  explicit PinnedIsa(Isa wanted) : found(detail::cpu::pin_isa(wanted)) {}
  ~PinnedIsa() { detail::cpu::pin_isa(Isa::avx512); }
  PinnedIsa(const PinnedIsa&) = delete;
  PinnedIsa& operator=(const PinnedIsa&) = delete;
  Isa found;
};
const Isa every_isa[] = {Isa::baseline, Isa::avx2, Isa::avx512};

void check_all_isas(const Case& k) {
  const Conv2dGeometry g = geometry(k);
  INFO("n " << g.n << " h " << g.h << " w " << g.w << " c " << g.c << " c2 " << g.c2 << " cout " << g.cout
            << " kernel " << g.kernel << " stride " << g.stride << " pad " << g.pad_begin << ", "
            << k.options.pad_end << " upsample " << g.upsample);
  const Inputs in(g);
  const Outputs expected = run(Reference{}, g, in);
  for (const Isa wanted : every_isa)
    for (const Mode& mode : modes) {
      const PinnedIsa pin(wanted);
      if (pin.found != wanted) continue;
      INFO("isa " << static_cast<int>(wanted) << " mode " << mode.name);
      Cpu device;
      device.convolution = mode.convolution;
      const Outputs found = run(device, g, in);
      require_close(found, expected, mode.limit);
      const Values forward = prepare(device, g, Conv2dPass::forward, in.weight);
      const Values backward = prepare(device, g, Conv2dPass::backward_data, in.weight);
      CHECK(found == run(device, g, in, forward, backward));
    }
}

}  // namespace

TEST_CASE("cpu conv2d: channels", "[conv2d][cpu]") {
  for (const int c : {1, 2, 3, 7, 8, 13, 16, 32, 37})
    for (const int cout : {1, 2, 3, 5, 8, 17, 32, 41}) check_all_isas({2, 5, 6, c, 0, cout, 3});
}

TEST_CASE("cpu conv2d: two tensors", "[conv2d][cpu]") {
  for (const auto& [c, c2] : {std::pair{1, 1}, {3, 1}, {16, 16}, {17, 5}, {5, 33}, {32, 16}, {64, 32}})
    for (const int kernel : {1, 3}) check_all_isas({2, 6, 5, c, c2, 19, kernel, {1, kernel / 2, kernel / 2}});
}

TEST_CASE("cpu conv2d: sizes of images", "[conv2d][cpu]") {
  for (const int h : {1, 2, 3, 4, 7, 8})
    for (const int w : {1, 2, 5, 7, 14}) check_all_isas({3, h, w, 16, 0, 16, 3});
  check_all_isas({1, 28, 28, 8, 0, 8, 3});
  check_all_isas({5, 14, 13, 32, 0, 16, 3});
  check_all_isas({33, 4, 4, 8, 0, 16, 3});
}

TEST_CASE("cpu conv2d: kernels, strides, paddings and upsampling", "[conv2d][cpu]") {
  for (const int kernel : {1, 2, 3, 4, 5})
    for (const int stride : {1, 2, 3})
      for (const int upsample : {1, 2})
        for (const auto& [begin, end] : {std::pair{0, 0}, {1, 1}, {0, 1}, {2, 1}, {3, 3}})
          if (4 * upsample + begin + end >= kernel)
            check_all_isas({2, 5, 4, 9, 0, 10, kernel, {stride, begin, end, upsample}});
}

TEST_CASE("cpu conv2d: the layers of a U-Net", "[conv2d][cpu]") {
  check_all_isas({2, 14, 14, 32, 0, 32, 3});
  check_all_isas({2, 7, 7, 64, 0, 64, 3});
  check_all_isas({2, 14, 14, 32, 32, 32, 3});
  check_all_isas({2, 14, 14, 32, 0, 32, 3, {2, 1, 1}});
  check_all_isas({2, 14, 14, 32, 0, 32, 3, {2, 0, 1}});
  check_all_isas({2, 7, 7, 32, 0, 32, 3, {1, 1, 1, 2}});
  check_all_isas({2, 7, 7, 64, 0, 64, 3, {1, 1, 1, 2}});
  check_all_isas({2, 14, 14, 1, 0, 32, 3});
  check_all_isas({2, 14, 14, 32, 0, 1, 3});
  check_all_isas({2, 14, 14, 64, 32, 32, 1, {1, 0, 0}});
}

// More rows and columns than a task takes; in whole tiles and not; summed in one slice and in several.
TEST_CASE("cpu conv2d: groups of a weight gradient", "[conv2d][cpu]") {
  check_all_isas({2, 8, 8, 80, 0, 112, 3});
  check_all_isas({13, 8, 8, 40, 30, 112, 3});
  check_all_isas({2, 6, 7, 70, 0, 100, 3});
  check_all_isas({3, 9, 8, 140, 0, 100, 1, {1, 0, 0}});
}

TEST_CASE("cpu conv2d: long sums", "[conv2d][cpu]") {
  check_all_isas({1, 4, 4, 512, 0, 24, 3});  // forward and weight of 4608 terms
  check_all_isas({1, 4, 4, 24, 0, 512, 3});  // backward data
  check_all_isas({1, 7, 8, 512, 0, 24, 3});  // the most that automatic leaves to F(4x4)
  check_all_isas({1, 7, 8, 24, 0, 600, 3});
  check_all_isas({40, 16, 16, 5, 0, 4, 3});  // weight: 10240 pixels
}

// The choice by shape leaves few channels to the direct form; here Winograd takes every shape that it
// supports.
TEST_CASE("cpu conv2d: winograd forced", "[conv2d][cpu]") {
  using detail::cpu::Algorithm;
  for (const Case& k : {Case{2, 5, 4, 5, 0, 7, 3}, Case{1, 1, 1, 6, 0, 5, 3}, Case{3, 7, 7, 13, 5, 9, 3},
                        Case{2, 3, 9, 1, 0, 6, 3}, Case{2, 6, 5, 33, 0, 17, 3, {1, 0, 0}},
                        Case{2, 6, 5, 8, 0, 8, 3, {1, 2, 0}}, Case{1, 5, 5, 7, 0, 5, 3, {1, 0, 3}},
                        Case{2, 3, 5, 6, 5, 9, 3, {1, 1, 1, 2}}, Case{1, 4, 3, 8, 0, 8, 3, {1, 0, 2, 3}}})
    for (const Isa wanted : every_isa)
      for (const Algorithm algorithm : {Algorithm::winograd_f2, Algorithm::winograd_f4}) {
        const PinnedIsa pin(wanted);
        if (pin.found != wanted) continue;
        const double limit = algorithm == Algorithm::winograd_f2 ? direct_limit : fast_limit;
        INFO("isa " << static_cast<int>(wanted) << " c " << k.c << " cout " << k.cout << " h " << k.h);
        const Conv2dGeometry g = geometry(k);
        const Inputs in(g);
        const Outputs expected = run(Reference{}, g, in);
        Outputs found = expected;
        const Conv2dForward<float> forward{g,       in.x.data(),    or_null(in.x2), in.weight.data(),
                                           nullptr, in.bias.data(), in.add.data(),  in.residual.data(),
                                           0.7f,    found.y.data()};
        detail::cpu::run({algorithm, detail::cpu::enlarged({g, Conv2dPass::forward})}, forward);
        CHECK(relative_error(found.y, expected.y) <= limit);
        const Conv2dBackwardData<float> backward{g,       in.dy.data(),    in.weight.data(),
                                                 nullptr, found.dx.data(), or_null(found.dx2)};
        if (g.c > detail::cpu::dot_columns && g.upsample == 1) {
          detail::cpu::run({algorithm, {g, Conv2dPass::backward_data}}, backward);
          CHECK(relative_error(found.dx, expected.dx) <= limit);
          CHECK(relative_error(found.dx2, expected.dx2) <= limit);
        }
        found.dweight = in.dweight;
        detail::cpu::run(algorithm, Conv2dBackwardWeight<float>{g, in.x.data(), or_null(in.x2), in.dy.data(),
                                                                found.dweight.data()});
        CHECK(relative_error(found.dweight, expected.dweight) <= limit);
      }
}

TEST_CASE("cpu conv2d: no pixels", "[conv2d][cpu]") {
  const Conv2dGeometry g = geometry({0, 4, 4, 3, 0, 5, 3});
  const Inputs in(g);
  CHECK(run(Cpu{}, g, in).dweight == in.dweight);
  CHECK(run(Cpu{}, g, in).dbias == in.dbias);
}

TEST_CASE("cpu conv2d: the number of threads changes no bit", "[conv2d][cpu]") {
  const int threads_before = ThreadPool::instance().threads();
  for (const Case& k : {Case{4, 14, 14, 32, 0, 48, 3}, Case{13, 8, 8, 40, 30, 112, 3},
                        Case{3, 7, 7, 40, 24, 33, 3}, Case{2, 9, 9, 1, 0, 32, 3}, Case{2, 9, 9, 32, 0, 1, 3},
                        Case{2, 14, 14, 16, 0, 16, 3, {2, 1, 1}}, Case{2, 7, 7, 16, 0, 16, 3, {1, 1, 1, 2}},
                        Case{2, 7, 7, 64, 0, 80, 3, {1, 1, 1, 2}}, Case{16, 1, 1, 96, 0, 128, 1, {1, 0, 0}}})
    for (const Mode& mode : modes) {
      const Conv2dGeometry g = geometry(k);
      const Inputs in(g);
      Cpu device;
      device.convolution = mode.convolution;
      ThreadPool::instance().resize(1);
      const Outputs expected = run(device, g, in);
      for (const int threads : {2, 3, 7}) {
        ThreadPool::instance().resize(threads);
        CHECK(run(device, g, in) == expected);
      }
    }
  ThreadPool::instance().resize(threads_before);
}

TEST_CASE("cpu conv2d: prepared weights serve every batch size", "[conv2d][cpu]") {
  for (const Mode& mode : modes) {
    Cpu device;
    device.convolution = mode.convolution;
    Conv2dGeometry g = geometry({1, 8, 8, 32, 0, 32, 3});
    const Values weight = Inputs(g).weight;
    const Values forward = prepare(device, g, Conv2dPass::forward, weight);
    const Values backward = prepare(device, g, Conv2dPass::backward_data, weight);
    g.n = 5;
    const Inputs in(g);
    CHECK(run(device, g, in, forward, backward) == run(device, g, in));
  }
}

TEST_CASE("cpu conv2d: repeated calls allocate nothing", "[conv2d][cpu]") {
  const Conv2dGeometry g = geometry({4, 14, 14, 32, 0, 32, 3});
  const Inputs in(g);
  run(Cpu{}, g, in);
  const std::int64_t before = Cpu{}.memory().system_allocations;
  run(Cpu{}, g, in);
  CHECK(Cpu{}.memory().system_allocations == before);
}

TEST_CASE("cpu linear", "[linear][cpu]") {
  for (const Isa wanted : every_isa) {
    const PinnedIsa pin(wanted);
    if (pin.found != wanted) continue;
    for (const int m : {1, 2, 7, 32, 300})
      for (const auto& extents : {std::pair{1, 1}, {3, 5}, {32, 128}, {128, 64}, {65, 3}, {129, 47}}) {
        const int in = extents.first, out = extents.second;
        INFO("isa " << static_cast<int>(wanted) << " m " << m << " in " << in << " out " << out);
        const Values x = random_values(m * in, 1), weight = random_values(in * out, 2),
                     bias = random_values(out, 3);
        const Values residual = random_values(m * out, 4), dy = random_values(m * out, 5);
        Values y(residual.size()), dx = random_values(m * in, 7), dweight = random_values(in * out, 6),
                                   dbias = bias;
        Values y_expected = y, dx_expected = dx, dweight_expected = dweight, dbias_expected = dbias;
        const auto run_all = [&](const auto& device, Values& to_y, Values& to_dx, Values& to_dweight,
                                 Values& to_dbias) {
          launch(device, LinearForward<float>{x.data(), weight.data(), nullptr, bias.data(), residual.data(),
                                              0.5f, to_y.data(), m, in, out});
          launch(device, LinearBackwardData<float>{dy.data(), weight.data(), nullptr, to_dx.data(), m, in,
                                                   out, m % 2 ? to_dx.data() : nullptr});
          launch(device, LinearBackwardWeight<float>{x.data(), dy.data(), to_dweight.data(), m, in, out,
                                                     to_dbias.data()});
        };
        run_all(Cpu{}, y, dx, dweight, dbias);
        run_all(Reference{}, y_expected, dx_expected, dweight_expected, dbias_expected);
        CHECK(relative_error(y, y_expected) <= direct_limit);
        CHECK(relative_error(dx, dx_expected) <= direct_limit);
        CHECK(relative_error(dweight, dweight_expected) <= direct_limit);
        CHECK(relative_error(dbias, dbias_expected) <= direct_limit);
      }
  }
}
