// SPDX-License-Identifier: MIT
// Convolutions and linear layers: kernels against Reference, and what they ask of memory.
#include <ddpm/ops/reference/conv2d.hpp>
#include <ddpm/ops/reference/linear.hpp>

#include "conv2d_kernels.hpp"
#include "conv2d_problem.hpp"

using namespace ddpm;
using namespace ddpm::simt;
using ddpm::simt::kernels::Tile;

namespace {

constexpr std::int64_t bytes_of_warp = 32 * 16;  // that move in one request of vectors

template <class T>
void check_passes(Problem<T> p, Tile tile) {
  INFO(name(p.g) << ", shifted " << p.shifted << ", present " << p.present << ", tile "
                 << static_cast<int>(tile) << ", " << sizeof(T) << " bytes");
  launch(Reference{}, p.forward(on_host));
  simt::kernels::run_with(tile, p.forward(on_device));
  CHECK(error_of(p.y) < tolerance);
  launch(Reference{}, p.backward_data(on_host));
  simt::kernels::run_with(tile, p.backward_data(on_device));
  CHECK(error_of(p.dx) < tolerance);
  if (p.g.c2) CHECK(error_of(p.dx2) < tolerance);
  launch(Reference{}, p.backward_weight(on_host));
  for (const int parts : {1, 3}) {
    p.dweight.restore();
    p.dbias.restore();
    simt::kernels::run_with(tile, parts, p.backward_weight(on_device));
    CHECK(error_of(p.dweight) < gradient_tolerance);
    CHECK(error_of(p.dbias) < gradient_tolerance);
  }
}

const std::vector<Conv2dGeometry> geometries = {
    geometry({1, 1, 1, 1, 0}, 1, 3, {}),
    geometry({1, 1, 1, 4, 0}, 4, 1, no_padding),
    geometry({67, 1, 1, 3, 0}, 4, 3, {}),
    geometry({2, 5, 7, 3, 0}, 37, 3, {}),   // several tiles of pixels
    geometry({1, 4, 5, 36, 0}, 68, 3, {}),  // and of columns
    geometry({1, 3, 3, 37, 0}, 32, 1, no_padding),
    geometry({1, 5, 4, 32, 0}, 3, 1, {}),
    geometry({1, 6, 5, 4, 8}, 8, 3, {}),          // vectors of two tensors
    geometry({1, 5, 3, 3, 5}, 4, 3, {}),          // which meet within a vector
    geometry({3, 2, 3, 4, 3}, 4, 1, no_padding),  // of which one has vectors
    geometry({3, 2, 3, 3, 4}, 4, 1, no_padding),
    geometry({1, 7, 6, 4, 0}, 3, 3, {.stride = 2, .pad_begin = 0, .pad_end = 1}),
    geometry({2, 8, 5, 5, 0}, 4, 3, {.stride = 2, .pad_begin = 1, .pad_end = 0}),
    geometry({1, 7, 8, 3, 1}, 2, 5, {.stride = 3, .pad_begin = 2, .pad_end = 1}),
    geometry({1, 5, 4, 4, 0}, 4, 1, {.stride = 3, .pad_begin = 0, .pad_end = 0}),  // pixels under no tap
    geometry({1, 2, 3, 2, 0}, 3, 3, {.stride = 5, .pad_begin = 1, .pad_end = 2}),  // an image within a stride
    geometry({1, 3, 4, 4, 0}, 4, 3, {.upsample = 2}),
    geometry({2, 3, 2, 3, 2}, 2, 5, {.pad_begin = 1, .pad_end = 3, .upsample = 2}),
    geometry({1, 4, 3, 4, 0}, 5, 3, {.stride = 2, .pad_begin = 0, .pad_end = 1, .upsample = 2}),
    geometry({1, 3, 5, 2, 0}, 4, 1, {.stride = 3, .pad_begin = 1, .pad_end = 0, .upsample = 2}),
};

}  // namespace

TEMPLATE_TEST_CASE("convolutions of every shape by every tile", "", float, bf16) {
  for (const Conv2dGeometry& g : geometries)
    for (const Tile tile : {Tile::wide, Tile::narrow}) check_passes<TestType>({g}, tile);
}

TEMPLATE_TEST_CASE("operands that are not aligned to vectors", "", float, bf16) {
  const Conv2dGeometry g = geometry({1, 3, 3, 4, 4}, 4, 3, {});
  for (unsigned which = 1; which < Which::all; which *= 2)
    check_passes<TestType>({.g = g, .shifted = which}, Tile::narrow);
  check_passes<TestType>({.g = g, .shifted = Which::all}, Tile::narrow);
  check_passes<TestType>({.g = geometry({1, 3, 3, 4, 0}, 4, 3, {}), .shifted = Which::add}, Tile::narrow);
}

TEMPLATE_TEST_CASE("a gradient that is added to where it lies", "", float, bf16) {
  for (const int channels : {4, 37})
    check_in_place<TestType>(geometry({2, 5, 7, channels, 0}, 3, 3, {.stride = 2}),
                             [](const auto& params) { simt::kernels::run_with(Tile::narrow, params); });
}

TEST_CASE("operands that are optional") {
  for (const int cout : {3, 4})
    for (const unsigned present : {0u, 16u, 32u, 48u, 64u, 80u, 96u})
      for (const float scale : {1.0f, -0.5f}) {
        Problem<float> p{
            .g = geometry({2, 3, 3, 2, 0}, cout, 1, no_padding), .present = present, .scale = scale};
        launch(Reference{}, p.forward(on_host));
        simt::kernels::run_with(Tile::narrow, p.forward(on_device));
        CHECK(error_of(p.y) < tolerance);
      }
}

TEMPLATE_TEST_CASE("moments of a result", "", float, bf16) {
  for (const Conv2dGeometry& g : {geometry({3, 1, 1, 4, 0}, 5, 1, no_padding),   // one pixel
                                  geometry({2, 8, 8, 4, 0}, 65, 1, no_padding),  // one slab
                                  geometry({2, 5, 13, 1, 0}, 3, 1, no_padding),  // a slab and a pixel
                                  geometry({1, 8, 9, 4, 0}, 4, 3, {.upsample = 2})}) {
    Problem<TestType> p{.g = g, .present = Which::all | Which::moments};
    simt::kernels::run_with(Tile::wide, p.forward(on_device));
    CHECK(error_of_moments(p) < tolerance);
  }
}

TEST_CASE("convolutions have the same bits under every schedule") {
  Problem<float> p{.g = geometry({2, 5, 7, 4, 4}, 36, 3, {.stride = 2, .pad_begin = 0})};
  std::vector<std::vector<float>> first;
  for_all_schedules([&] {
    simt::kernels::run_with(Tile::narrow, p.forward(on_device));
    simt::kernels::run_with(Tile::narrow, p.backward_data(on_device));
    p.dweight.restore();
    p.dbias.restore();
    simt::kernels::run_with(Tile::narrow, 2, p.backward_weight(on_device));
    const std::vector<std::vector<float>> results = {p.y.device_values(), p.dx.device_values(),
                                                     p.dx2.device_values(), p.dweight.device_values(),
                                                     p.dbias.device_values()};
    if (first.empty()) first = results;
    for (std::size_t i = 0; i < results.size(); ++i)
      REQUIRE(std::memcmp(first[i].data(), results[i].data(), results[i].size() * sizeof(float)) == 0);
  });
}

TEST_CASE("few channels are computed by narrow tiles", "[executor]") {
  for (const int channels : {32, 33}) {
    const Tile expected = channels == 32 ? Tile::narrow : Tile::wide;
    Problem<float> p{.g = geometry({1, 1, 1, 1, 0}, channels, 1, no_padding)};
    Problem<float> joined{.g = geometry({1, 1, 1, 2, channels - 2}, 1, 1, no_padding)};
    const auto check_same = [&](auto run_chosen, auto run_expected) {
      run_chosen();
      const std::int64_t bytes = counters().shared_loads.bytes;
      run_expected();
      CHECK(bytes == counters().shared_loads.bytes);
    };
    check_same([&] { simt::kernels::run(p.forward(on_device)); },
               [&] { simt::kernels::run_with(expected, p.forward(on_device)); });
    check_same([&] { simt::kernels::run(joined.backward_data(on_device)); },
               [&] { simt::kernels::run_with(expected, joined.backward_data(on_device)); });
    check_same([&] { simt::kernels::run(p.backward_weight(on_device)); },
               [&] { simt::kernels::run_with(expected, 1, p.backward_weight(on_device)); });
  }
}

TEST_CASE("a weight's gradient of few tiles is computed in parts") {
  for (const int n : {511, 512}) {
    Problem<float> p{.g = geometry({n, 1, 1, 1, 0}, 1, 1, no_padding)};
    launch(Reference{}, p.backward_weight(on_host));
    const std::int64_t launches = Executor::instance().launches();
    simt::kernels::run(p.backward_weight(on_device));
    if (Executor::counts) CHECK(Executor::instance().launches() - launches == (n == 511 ? 1 : 2));
    CHECK(error_of(p.dweight) < gradient_tolerance);
    CHECK(error_of(p.dbias) < gradient_tolerance);
  }
  const Conv2dGeometry many = geometry({128, 32, 32, 1, 0}, 1, 1, no_padding);
  CHECK(simt::kernels::parts_of_pixels(many, 1) == 264);
  CHECK(simt::kernels::parts_of_pixels(many, 88) == 3);
  CHECK(simt::kernels::parts_of_pixels(many, 265) == 1);
}

TEST_CASE("an infinity reaches only the pixels that read it") {
  Problem<float> p{.g = geometry({1, 2, 2, 3, 0}, 3, 1, no_padding), .present = none};
  std::vector<float> x = p.x.device_values(), dy = p.dy.device_values();
  x.back() = dy.back() = INFINITY;
  CudaSim{}.upload(p.x.device(), x.data(), x.size() * sizeof(float));
  CudaSim{}.upload(p.dy.device(), dy.data(), dy.size() * sizeof(float));
  simt::kernels::run(p.forward(on_device));
  simt::kernels::run(p.backward_data(on_device));
  const std::vector<float> y = p.y.device_values(), dx = p.dx.device_values();
  for (std::size_t i = 0; i < y.size(); ++i) {
    CHECK(std::isfinite(y[i]) == (i < y.size() - 3));
    CHECK(std::isfinite(dx[i]) == (i < dx.size() - 3));
  }
}

TEST_CASE("convolutions move vectors, use whole sectors and meet no bank conflicts", "[executor]") {
  for (const Tile tile : {Tile::wide, Tile::narrow}) {
    Problem<float> p{.g = geometry({1, 8, 8, 32, 32}, 64, 1, no_padding), .present = none};
    const auto check_traffic = [] {
      CHECK(counters().global_loads.requests * bytes_of_warp == counters().global_loads.bytes);
      CHECK(counters().global_stores.requests * bytes_of_warp == counters().global_stores.bytes);
      CHECK(counters().global_loads.sectors * sector_bytes == counters().global_loads.bytes);
      CHECK(counters().global_stores.sectors * sector_bytes == counters().global_stores.bytes);
      CHECK(counters().shared_loads.bank_conflicts == 0);
      CHECK(counters().shared_stores.bank_conflicts == 0);
    };
    simt::kernels::run_with(tile, p.forward(on_device));
    check_traffic();
    simt::kernels::run_with(tile, p.backward_data(on_device));
    check_traffic();
    simt::kernels::run_with(tile, 1, p.backward_weight(on_device));
    check_traffic();
  }
}

TEMPLATE_TEST_CASE("linear layers", "", float, bf16) {
  using T = TestType;
  for (const std::int64_t m : {1, 70})
    for (const int in : {4, 37})
      for (const bool has_terms : {false, true}) {
        constexpr int out = 5;
        const auto values = [](std::int64_t count, unsigned seed) {
          return normal_values<T>(static_cast<std::size_t>(count), seed);
        };
        Operand<T> x(values(m * in, 1)), weight(values(out * in, 2)), residual(values(m * out, 3)),
            dy(values(m * out, 4)), y(missing_values<T>(dy.size())), dx(missing_values<T>(x.size()));
        Operand<T> dx_add(values(m * in, 8));
        Operand<float> bias(normal_values<float>(out, 5)), dweight(normal_values<float>(weight.size(), 6)),
            dbias(normal_values<float>(out, 7));
        const auto forward = [&](auto address) {
          return LinearForward<T>{address(x),
                                  address(weight),
                                  nullptr,
                                  has_terms ? address(bias) : nullptr,
                                  has_terms ? address(residual) : nullptr,
                                  has_terms ? 0.5f : 1.0f,
                                  address(y),
                                  m,
                                  in,
                                  out};
        };
        launch(Reference{}, forward(on_host));
        simt::kernels::run(forward(on_device));
        CHECK(error_of(y) < tolerance);
        const auto backward_data = [&](auto address) {
          return LinearBackwardData<T>{address(dy), address(weight),
                                       nullptr,     address(dx),
                                       m,           in,
                                       out,         has_terms ? address(dx_add) : nullptr};
        };
        launch(Reference{}, backward_data(on_host));
        simt::kernels::run(backward_data(on_device));
        CHECK(error_of(dx) < tolerance);
        const auto backward_weight = [&](auto address) {
          return LinearBackwardWeight<T>{
              address(x), address(dy), address(dweight), m, in, out, has_terms ? address(dbias) : nullptr};
        };
        launch(Reference{}, backward_weight(on_host));
        simt::kernels::run(backward_weight(on_device));
        CHECK(error_of(dweight) < gradient_tolerance);
        CHECK(error_of(dbias) < gradient_tolerance);
      }
}

TEST_CASE("linear layers refuse more rows than a convolution has pixels") {
  LinearForward<float> p{};
  p.m = std::int64_t{1} << 31, p.in = 1, p.out = 1;
  try {
    simt::kernels::run(p);
    FAIL("no failure");
  } catch (const ShapeError& error) {
    CHECK(contains(error.what(), "linear: x has 2147483648 rows, the kernels take at most 2147483647"));
  }
}
