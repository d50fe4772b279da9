// SPDX-License-Identifier: MIT
// Upsampling: kernels against Reference, and the bytes they move.
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
