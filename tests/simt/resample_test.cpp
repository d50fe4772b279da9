// SPDX-License-Identifier: MIT
// Upsampling and the gradient of a bias: kernels against Reference, and the bytes they move.
#include <ddpm/ops/reference/reduce.hpp>
#include <ddpm/ops/reference/resample.hpp>

#include "op_test.hpp"
#include "resample_kernels.hpp"

using namespace ddpm;
using namespace ddpm::simt;

namespace {

constexpr double tolerance = 1e-5;

const Counters& counters() { return Executor::instance().counters(); }

std::size_t product(std::initializer_list<int> sizes) {
  std::size_t count = 1;
  for (const int size : sizes) count *= static_cast<std::size_t>(size);
  return count;
}

// Values that a kernel must overwrite.
template <class T>
std::vector<T> sevens(std::size_t count) {
  return std::vector<T>(count, T(7));
}

struct Image {
  int n, h, w, c;
  std::size_t small_offset = 0, large_offset = 0;  // of the operands, in elements
};

struct Bias {
  int n, hw, c;
  std::size_t offset = 0;
};

template <class T>
void check_bias(const Bias& b, bool has_samples, bool has_total) {
  Operand<T> dy(normal_values<T>(product({b.n, b.hw, b.c}), 3), b.offset);
  Operand<T> per_sample(sevens<T>(product({b.n, b.c})));
  Operand<float> dbias(normal_values<float>(product({b.c}), 4));
  launch(Reference{}, BiasBackward<T>{dy.host(), has_samples ? per_sample.host() : nullptr,
                                      has_total ? dbias.host() : nullptr, b.n, b.hw, b.c});
  const BiasBackward<T> params{dy.device(),
                               has_samples ? per_sample.device() : nullptr,
                               has_total ? dbias.device() : nullptr,
                               b.n,
                               b.hw,
                               b.c};
  run_everywhere_alike([&] { simt::kernels::run(params); }, per_sample, dbias);
  CHECK(error_of(dbias) < tolerance);
  CHECK(error_of(per_sample) < tolerance);
}

}  // namespace

TEMPLATE_TEST_CASE("upsampling", "", float, bf16) {
  using T = TestType;
  for (const Image& s : std::vector<Image>{{1, 1, 1, 1},
                                           {2, 3, 5, 3},
                                           {1, 2, 3, 8, 1, 0},
                                           {1, 2, 3, 8, 0, 1},
                                           {3, 1, 7, 16},
                                           {1, 3, 1, 37},
                                           {1, 1, 19, 264},  // several blocks along a row and its channels
                                           {1, 2, 9, 520}}) {
    INFO("N " << s.n << ", H " << s.h << ", W " << s.w << ", C " << s.c);
    const std::size_t count = product({s.n, s.h, s.w, s.c});
    Operand<T> x(normal_values<T>(count, 1), s.small_offset), y(sevens<T>(4 * count), s.large_offset);
    launch(Reference{}, UpsampleForward<T>{x.host(), y.host(), s.n, s.h, s.w, s.c});
    run_everywhere_alike(
        [&] {
          simt::kernels::run(UpsampleForward<T>{x.device(), y.device(), s.n, s.h, s.w, s.c});
        },
        y);
    CHECK(error_of(y) == 0);
    Operand<T> dy(normal_values<T>(4 * count, 2), s.large_offset), dx(sevens<T>(count), s.small_offset);
    launch(Reference{}, UpsampleBackward<T>{dy.host(), dx.host(), s.n, s.h, s.w, s.c});
    run_everywhere_alike(
        [&] {
          simt::kernels::run(UpsampleBackward<T>{dy.device(), dx.device(), s.n, s.h, s.w, s.c});
        },
        dx);
    CHECK(error_of(dx) < tolerance);
  }
}

TEMPLATE_TEST_CASE("the gradient of a bias", "", float, bf16) {
  for (const Bias& b : std::vector<Bias>{{1, 1, 1},
                                         {3, 7, 3},
                                         {2, 33, 37},
                                         {2, 16, 48},
                                         {2, 16, 48, 1},
                                         {70, 1, 16},
                                         {2, 530, 64},   // several blocks of pixels
                                         {1, 3, 528},    // and of channels
                                         {1, 261, 264},  // and of both
                                         {0, 4, 8},
                                         {2, 0, 8}}) {
    INFO("N " << b.n << ", HW " << b.hw << ", C " << b.c << ", offset " << b.offset);
    check_bias<TestType>(b, true, true);
    check_bias<TestType>(b, false, true);
    check_bias<TestType>(b, true, false);
  }
}

TEST_CASE("upsampling and its gradient move no byte twice, in whole sectors", "[executor]") {
  constexpr int n = 2, h = 4, w = 8, c = 16;
  constexpr std::int64_t small = std::int64_t{n} * h * w * c * 4, large = 4 * small;
  const Operand<float> x(std::vector<float>(small / 4)), y(std::vector<float>(large / 4));
  const auto check = [](const GlobalTraffic& traffic, std::int64_t bytes) {
    CHECK(traffic.bytes == bytes);
    CHECK(traffic.sectors == bytes / sector_bytes);
    CHECK(traffic.sectors_of_blocks == bytes / sector_bytes);
  };
  simt::kernels::run(UpsampleForward<float>{x.device(), y.device(), n, h, w, c});
  check(counters().global_loads, small);
  check(counters().global_stores, large);
  simt::kernels::run(UpsampleBackward<float>{y.device(), x.device(), n, h, w, c});
  check(counters().global_loads, large);
  check(counters().global_stores, small);
}

TEST_CASE("the gradient of a bias reads dy once", "[executor]") {
  constexpr int n = 2, hw = 512, c = 64;
  constexpr std::int64_t bytes = std::int64_t{n} * hw * c * 4;
  const Operand<float> dy{std::vector<float>(bytes / 4)}, per_sample{std::vector<float>(n * c)};
  const Operand<float> dbias{std::vector<float>(c)};
  Executor::instance().sum = {};
  simt::kernels::run(BiasBackward<float>{dy.device(), per_sample.device(), dbias.device(), n, hw, c});
  CHECK(static_cast<double>(Executor::instance().sum.global_bytes()) <= 1.02 * bytes);
  CHECK(Executor::instance().sum.shared_loads.bank_conflicts == 0);
}
