// SPDX-License-Identifier: MIT
// Convolutions of bf16, and of float in TF32, on tensor cores: kernels against Reference, and what they ask of memory.
#include <ddpm/ops/reference/linear.hpp>

#include "conv2d_kernels.hpp"
#include "conv2d_problem.hpp"

using namespace ddpm;
using namespace ddpm::simt;
using ddpm::simt::kernels::MmaTile;

namespace {

constexpr FloatProducts tf32 = FloatProducts::tf32;

struct TileOf {
  MmaTile name;
  int rows, columns, bytes;  // of the depth of a slice
};
constexpr TileOf tall{MmaTile::tall, 256, 128, 64}, large{MmaTile::large, 128, 128, 64},
    flat{MmaTile::flat, 64, 128, 64}, small{MmaTile::small, 64, 64, 128};

// Of float fewer, as it shares all but the reading of slices: those with slices of every size.
template <class T>
const std::vector<TileOf> long_tested =
    std::is_same_v<T, float> ? std::vector{tall, small} : std::vector{tall, large, flat, small};

template <class T>
constexpr int vector = 16 / sizeof(T);  // elements

constexpr int rounded_up(int count, int to) { return (count + to - 1) / to * to; }

// mma.sync of a product whose rows and columns fill tiles.
template <class T>
std::int64_t products(const TileOf& tile, int rows, int columns, int depth) {
  return std::int64_t{rounded_up(rows, tile.rows) / 16} * (rounded_up(columns, tile.columns) / 8) *
         (rounded_up(depth * int{sizeof(T)}, tile.bytes) / 32);
}

template <class T>
void check_forward(Problem<T>& p, const TileOf& tile) {
  INFO(simt::name(p.g) << ", shifted " << p.shifted << ", present " << p.present << ", tile " << tile.rows
                       << " x " << tile.columns);
  simt::kernels::run_with(tile.name, p.forward(on_device));
  CHECK(error_of(p.y) < tolerance);
  if (p.present & Which::moments) CHECK(error_of_moments(p) < tolerance);
}

template <class T>
void check_backward(Problem<T>& p, const TileOf& tile) {
  INFO(simt::name(p.g) << ", shifted " << p.shifted << ", tile " << tile.rows << " x " << tile.columns);
  simt::kernels::run_with(tile.name, p.backward_data(on_device));
  CHECK(error_of(p.dx) < tolerance);
  if (p.g.c2) CHECK(error_of(p.dx2) < tolerance);
}

template <class T>
void check_weight(Problem<T>& p, const TileOf& tile, int parts) {
  INFO(simt::name(p.g) << ", tile " << tile.rows << " x " << tile.columns << ", parts " << parts);
  p.dweight.restore();
  p.dbias.restore();
  simt::kernels::run_with(tile.name, parts, p.backward_weight(on_device));
  CHECK(error_of(p.dweight) < gradient_tolerance);
  CHECK(error_of(p.dbias) < gradient_tolerance);
}

// One of the geometries below, which are of bf16, with slices of as many bytes.
template <class T>
Conv2dGeometry for_type(Conv2dGeometry g) {
  if constexpr (std::is_same_v<T, float>) g.c /= 2, g.c2 /= 2, g.cout -= 4;
  return g;
}

// Depths that end within a slice, slices that outnumber the stages, tiles that end within channels and pixels.
const std::vector<Conv2dGeometry> geometries = {
    geometry({1, 1, 1, 8, 0}, 8, 1, no_padding),
    geometry({67, 1, 1, 8, 0}, 8, 3, {}),
    geometry({2, 5, 7, 8, 0}, 24, 3, {}),
    geometry({1, 9, 15, 40, 0}, 136, 1, no_padding),
    geometry({1, 3, 3, 64, 0}, 72, 3, {}),
    geometry({3, 5, 5, 72, 0}, 8, 1, {}),
    geometry({1, 6, 5, 8, 16}, 16, 3, {}),
    geometry({2, 4, 3, 40, 24}, 8, 3, {}),
    geometry({1, 7, 6, 8, 0}, 16, 3, {.stride = 2, .pad_begin = 0, .pad_end = 1}),
    geometry({2, 8, 5, 16, 0}, 8, 3, {.stride = 2, .pad_begin = 1, .pad_end = 0}),
    geometry({1, 7, 8, 8, 8}, 8, 5, {.stride = 3, .pad_begin = 2, .pad_end = 1}),
    geometry({1, 5, 4, 8, 0}, 8, 1, {.stride = 3, .pad_begin = 0, .pad_end = 0}),  // pixels under no tap
    geometry({1, 2, 3, 8, 0}, 8, 3, {.stride = 5, .pad_begin = 1, .pad_end = 2}),  // an image within a stride
    geometry({1, 3, 4, 16, 0}, 8, 3, {.upsample = 2}),
    geometry({2, 3, 2, 8, 8}, 8, 5, {.pad_begin = 1, .pad_end = 3, .upsample = 2}),
    geometry({1, 4, 3, 8, 0}, 8, 3, {.stride = 2, .pad_begin = 0, .pad_end = 1, .upsample = 2}),
    geometry({1, 1, 70, 8, 0}, 16, 1, no_padding),
};

}  // namespace

TEMPLATE_TEST_CASE("tensor cores compute convolutions of every shape by every tile", "", bf16, float) {
  for (std::size_t i = 0; i < geometries.size(); i += std::is_same_v<TestType, float> ? 3 : 1) {
    Problem<TestType> p{.g = for_type<TestType>(geometries[i])};
    compute_reference(p);
    for (const TileOf& tile : {tall, large, flat, small}) {
      check_forward(p, tile);
      check_backward(p, tile);
    }
    for (const TileOf& tile : {tall, large, small})
      for (const int parts : {1, 3}) check_weight(p, tile, parts);
  }
}

TEMPLATE_TEST_CASE("tensor cores write results of any alignment and number of channels", "", bf16, float) {
  const unsigned outputs[] = {Which::y, Which::bias, Which::add, Which::residual};
  for (const int cout : {3, 8, 12})
    for (const unsigned shifted : outputs) {
      Problem<TestType> p{.g = geometry({2, 5, 7, 8, 0}, cout, 1, no_padding), .shifted = shifted};
      compute_reference(p);
      check_forward(p, small);
    }
  for (const unsigned shifted : {Which::x, Which::x2}) {
    Problem<TestType> p{.g = geometry({1, 5, 4, 8, 8}, 8, 3, {}), .shifted = shifted};
    compute_reference(p);
    check_backward(p, small);
  }
  Problem<TestType> p{.g = geometry({1, 5, 4, 8, 0}, 8, 3, {}), .shifted = Which::add};
  compute_reference(p);
  check_backward(p, small);
}

TEST_CASE("tensor cores add to a gradient where it lies") {
  for (const TileOf& tile : {tall, large, flat, small})
    check_in_place<bf16>(geometry({2, 5, 7, 72, 0}, 8, 3, {.stride = 2}),
                         [&](const auto& params) { simt::kernels::run_with(tile.name, params); });
}

TEMPLATE_TEST_CASE("tensor cores take operands that are optional", "", bf16, float) {
  for (const unsigned present : {0u, 16u, 32u, 48u, 64u, 80u, 96u})
    for (const float scale : {1.0f, -0.5f}) {
      Problem<TestType> p{
          .g = geometry({2, 5, 7, 8, 0}, 16, 1, no_padding), .present = present, .scale = scale};
      compute_reference(p);
      check_forward(p, small);
    }
}

TEMPLATE_TEST_CASE("tensor cores leave moments of what they write", "", bf16, float) {
  struct Case {
    Images x;
    int cout;
    Conv2dOptions options;
    bool by_the_kernel;
  };
  const Case cases[] = {{{3, 1, 1, 8, 0}, 8, no_padding, true},  // slabs of a pixel
                        {{3, 4, 4, 8, 0}, 72, no_padding, true},
                        {{9, 4, 4, 8, 0}, 8, no_padding, true},
                        {{3, 8, 8, 8, 0}, 8, no_padding, true},
                        {{2, 8, 24, 8, 0}, 11, no_padding, true},
                        {{2, 8, 16, 8, 0}, 8, {.stride = 2, .pad_begin = 0, .pad_end = 0}, true},
                        {{2, 3, 3, 8, 0}, 8, no_padding, false},  // slabs cross tiles
                        {{1, 8, 9, 8, 0}, 8, no_padding, false},
                        {{1, 4, 4, 8, 0}, 8, {.pad_begin = 0, .pad_end = 0, .upsample = 2}, false}};
  for (const Case& c : cases)
    for (const TileOf& tile : {tall, large, flat, small}) {
      Problem<TestType> p{.g = geometry(c.x, c.cout, 1, c.options), .present = Which::all | Which::moments};
      compute_reference(p);
      const std::int64_t launches = Executor::instance().launches();
      check_forward(p, tile);
      if (Executor::counts) CHECK(Executor::instance().launches() - launches == (c.by_the_kernel ? 1 : 2));
      CHECK(simt::kernels::gives_moments<TestType>(tf32, p.g) == c.by_the_kernel);
      if (std::is_same_v<TestType, float>)
        CHECK_FALSE(simt::kernels::gives_moments<TestType>(FloatProducts::exact, p.g));
    }
  CHECK_FALSE(simt::kernels::gives_moments<TestType>(
      tf32, geometry({1, 8, 8, vector<TestType> / 2, 0}, 8, 1, no_padding)));
}

TEMPLATE_TEST_CASE("an infinity reaches only the pixels that read it, past no end of the depth", "", bf16,
                   float) {
  using T = TestType;
  for (const TileOf& tile : {tall, large, flat, small}) {
    Problem<T> p{.g = geometry({1, 2, 2, 8, 0}, 8, 1, no_padding), .present = none};
    const auto make_last_infinite = [](const Operand<T>& operand) {
      std::vector<T> values = operand.device_values();
      values.back() = static_cast<T>(INFINITY);
      CudaSim{}.upload(operand.device(), values.data(), values.size() * sizeof(T));
    };
    make_last_infinite(p.x);
    make_last_infinite(p.dy);
    simt::kernels::run_with(tile.name, p.forward(on_device));
    simt::kernels::run_with(tile.name, p.backward_data(on_device));
    const std::vector<T> y = p.y.device_values(), dx = p.dx.device_values();
    for (std::size_t i = 0; i < y.size(); ++i) {
      CHECK(std::isfinite(static_cast<float>(y[i])) == (i < y.size() - 8));
      CHECK(std::isfinite(static_cast<float>(dx[i])) == (i < dx.size() - 8));
    }
  }
}

TEMPLATE_TEST_CASE("tensor cores give the same bits under every schedule", "", bf16, float) {
  // Several phases, two tensors and classes; more slices than stages, parts, and moments.
  Problem<TestType> p{
      .g = for_type<TestType>(geometry({1, 3, 3, 8, 8}, 16, 3, {.stride = 2, .pad_begin = 0, .upsample = 2})),
      .present = Which::all | Which::moments};
  Problem<TestType> square{.g = for_type<TestType>(geometry({1, 8, 8, 40, 0}, 8, 3, {})),
                           .present = Which::all | Which::moments};
  for (const TileOf& tile : long_tested<TestType>)
    run_everywhere_alike(
        [&] {
          simt::kernels::run_with(tile.name, p.forward(on_device));
          simt::kernels::run_with(tile.name, square.forward(on_device));
          simt::kernels::run_with(tile.name, p.backward_data(on_device));
          simt::kernels::run_with(tile.name, 2, square.backward_weight(on_device));
        },
        p.y, p.moments, p.dx, p.dx2, square.y, square.moments, square.dweight, square.dbias);
}

TEMPLATE_TEST_CASE("tensor cores are used where they can be", "[executor]", bf16, float) {
  using T = TestType;
  const auto is_on_tensor_cores = [](auto run) {
    Executor::instance().sum = {};
    run();
    return Executor::instance().sum.matrix_instructions > 0;
  };
  const auto check_all = [&](Problem<T>& p, bool forward, bool data, bool weight) {
    INFO(simt::name(p.g) << ", shifted " << p.shifted);
    const auto check_one = [&](const auto& params, bool expected) {
      CHECK(is_on_tensor_cores([&] { simt::kernels::run(tf32, params); }) == expected);
      CHECK(is_on_tensor_cores([&] { simt::kernels::run(params); }) == (expected && std::is_same_v<T, bf16>));
      CHECK_FALSE(is_on_tensor_cores([&] { simt::kernels::run_on_general_cores(tf32, params); }));
      if (expected)
        CHECK(is_on_tensor_cores([&] { simt::kernels::run_on_tensor_cores(tf32, params); }));
      else
        CHECK_THROWS_AS(simt::kernels::run_on_tensor_cores(tf32, params), ConfigError);
    };
    check_one(p.forward(on_device), forward);
    check_one(p.backward_data(on_device), data);
    check_one(p.backward_weight(on_device), weight);
  };
  const auto check_geometry = [&](const Conv2dGeometry& g, bool forward, bool data, bool weight) {
    Problem<T> p{.g = g};
    check_all(p, forward, data, weight);
  };
  constexpr int all = vector<T>, part = all / 2;
  check_geometry(geometry({1, 2, 2, all, all}, all, 1, no_padding), true, true, true);
  check_geometry(geometry({1, 2, 2, all, 0}, 3, 1, no_padding), true, false, false);
  check_geometry(geometry({1, 2, 2, part, 0}, all, 1, no_padding), false, false, false);
  check_geometry(geometry({1, 2, 2, all, part}, all, 1, no_padding), false, false, false);
  check_geometry(geometry({1, 2, 2, part, part}, all, 1, no_padding), false, false, false);
  const auto check_shifted = [&](unsigned shifted, bool forward, bool data, bool weight) {
    Problem<T> p{.g = geometry({1, 2, 2, all, all}, all, 1, no_padding), .shifted = shifted};
    check_all(p, forward, data, weight);
  };
  check_shifted(Which::x, false, true, false);
  check_shifted(Which::x2, false, true, false);
  check_shifted(Which::weight, false, false, false);
  check_shifted(Which::y, true, false, false);
  // Tensors whose chunks can be counted, and such as are twice as large.
  const auto takes = [](const Conv2dGeometry& g) {
    Conv2dForward<T> p{};
    p.shape = g;
    return simt::kernels::supports_mma(p);
  };
  constexpr int h = 1 << 20, w = 1 << 9;
  const Conv2dOptions half{.stride = 2, .pad_begin = 0, .pad_end = 0};
  const Conv2dOptions twice{.pad_begin = 0, .pad_end = 0, .upsample = 2};
  CHECK(takes(geometry({1, h, w, all, 0}, all, 1, no_padding)));
  CHECK(takes(geometry({1, h, w, all, 0}, 3, 1, no_padding)));
  CHECK_FALSE(takes(geometry({2, h, w, all, 0}, all, 1, half)));
  CHECK_FALSE(takes(geometry({1, h, w, all, all}, all, 1, half)));
  CHECK_FALSE(takes(geometry({1, h / 2, w, all, 0}, all, 1, twice)));
  CHECK_FALSE(takes(geometry({1, h, w, all, 0}, 2 * all, 1, no_padding)));
}

TEST_CASE("wgmma is used where it is asked for or faster", "[executor]") {
  const auto is_by_wgmma = [](auto run) {
    Executor::instance().sum = {};
    run();
    return Executor::instance().sum.bulk_copies > 0;
  };
  Problem<bf16> little{.g = geometry({1, 2, 2, 64, 64}, 128, 1, no_padding)};
  CHECK(is_by_wgmma([&] { simt::kernels::run_by_wgmma(tf32, little.forward(on_device)); }));
  CHECK(is_by_wgmma([&] { simt::kernels::run_by_wgmma(tf32, little.backward_data(on_device)); }));
  CHECK_FALSE(is_by_wgmma([&] { simt::kernels::run(little.forward(on_device)); }));
  CHECK(is_by_wgmma([&] { simt::kernels::run_by_wgmma(tf32, little.backward_weight(on_device)); }));
  // So many tiles of 128 rows that smaller ones take a wave more.
  Problem<bf16> large_one{.g = geometry({1, 67, 128, 64, 0}, 128, 1, no_padding), .present = none};
  CHECK(is_by_wgmma([&] { simt::kernels::run(large_one.forward(on_device)); }));
  CHECK_FALSE(is_by_wgmma([&] { simt::kernels::run_on_tensor_cores(tf32, large_one.forward(on_device)); }));
  Problem<bf16> of_mma{.g = geometry({1, 2, 2, 96, 0}, 96, 1, no_padding)};
  CHECK_THROWS_AS(simt::kernels::run_by_wgmma(tf32, of_mma.forward(on_device)), ConfigError);
  CHECK_THROWS_AS(simt::kernels::run_by_wgmma(tf32, of_mma.backward_data(on_device)), ConfigError);
  Problem<float> of_floats{.g = little.g};
  CHECK_THROWS_AS(simt::kernels::run_by_wgmma(tf32, of_floats.forward(on_device)), ConfigError);
}

TEMPLATE_TEST_CASE("tensor cores multiply what they must, copy it once and meet no bank conflicts",
                   "[executor]", bf16, float) {
  using T = TestType;
  for (const TileOf& tile : long_tested<TestType>) {
    constexpr int channels = 128;
    const int pixels = tile.rows * 2;
    Problem<T> p{.g = geometry({1, 2, tile.rows, 96, 32}, channels, 1, no_padding), .present = none};
    const auto check_traffic = [&](int rows, int columns, int depth) {
      INFO("tile " << tile.rows << " x " << tile.columns);
      CHECK(counters().matrix_instructions == products<T>(tile, rows, columns, depth));
      const int row_tiles = rows / tile.rows, column_tiles = columns / tile.columns;
      const std::int64_t copied =
          std::int64_t{sizeof(T)} * depth * row_tiles * column_tiles * (tile.rows + tile.columns);
      CHECK(counters().global_loads.bytes == copied);
      CHECK(counters().global_loads.sectors * sector_bytes == copied);
      CHECK(counters().global_stores.sectors * sector_bytes == counters().global_stores.bytes);
      CHECK(counters().shared_loads.bank_conflicts == 0);
      CHECK(counters().shared_stores.bank_conflicts == 0);
    };
    simt::kernels::run_with(tile.name, p.forward(on_device));
    check_traffic(pixels, channels, channels);
    CHECK(counters().global_stores.requests * 32 * 16 == counters().global_stores.bytes);
    simt::kernels::run_with(tile.name, p.backward_data(on_device));
    check_traffic(pixels, channels, channels);
    CHECK(counters().global_stores.requests * 32 * 16 == counters().global_stores.bytes);
    Problem<T> complete{.g = geometry({2, 8, 8, 8, 0}, 128, 1, no_padding),
                        .present = Which::all | Which::moments};
    simt::kernels::run_with(tile.name, complete.forward(on_device));
    CHECK(counters().shared_loads.bank_conflicts == 0);
    CHECK(counters().shared_stores.bank_conflicts == 0);
    if (tile.name == MmaTile::flat) continue;
    Executor::instance().sum = {};
    simt::kernels::run_with(tile.name, 2, p.backward_weight(on_device));
    const std::int64_t parts = 2, of_part = products<T>(tile, channels, channels, pixels / 2);
    CHECK(Executor::instance().sum.matrix_instructions == parts * of_part);
    CHECK(Executor::instance().sum.shared_loads.bank_conflicts == 0);
    CHECK(Executor::instance().sum.shared_stores.bank_conflicts == 0);
    // For the bias, each row of tiles multiplies dy of bf16 by eight columns of ones once.
    const std::int64_t of_bias =
        std::is_same_v<T, bf16> ? rounded_up(channels, tile.rows) / 16 * pixels / 16 : 0;
    p.present = Which::bias;
    Executor::instance().sum = {};
    simt::kernels::run_with(tile.name, parts, p.backward_weight(on_device));
    CHECK(Executor::instance().sum.matrix_instructions == parts * of_part + of_bias);
    CHECK(Executor::instance().sum.shared_loads.bank_conflicts == 0);
  }
}

TEMPLATE_TEST_CASE("tensor cores read what lies under the taps, once per tile", "[executor]", bf16, float) {
  constexpr int n = 1, h = 8, w = 16, channels = 64, taps = 9, element = sizeof(TestType);
  Problem<TestType> p{.g = geometry({n, h, w, channels - 16, 16}, channels, 3, {}), .present = none};
  constexpr std::int64_t pixels = n * h * w,
                         under_taps = n * (3 * h - 2) * (3 * w - 2);  // but for the padding
  const auto count = [](int all, int size) { return (all + size - 1) / size; };
  const auto check_traffic = [](std::int64_t read) {
    CHECK(counters().global_loads.bytes == read);
    // Lanes that leave out a copy are counted with the next of others, so that a sector may count once for two.
    CHECK(counters().global_loads.sectors * sector_bytes <= read);
    CHECK(counters().shared_loads.bank_conflicts == 0);
    CHECK(counters().shared_stores.bank_conflicts == 0);
  };
  for (const TileOf& tile : long_tested<TestType>) {
    INFO("tile " << tile.rows << " x " << tile.columns);
    const std::int64_t gathered = under_taps * channels * count(channels, tile.columns) +
                                  taps * channels * channels * count(pixels, tile.rows);
    simt::kernels::run_with(tile.name, p.forward(on_device));
    check_traffic(gathered * element);
    simt::kernels::run_with(tile.name, p.backward_data(on_device));
    check_traffic(gathered * element);
    if (tile.name == MmaTile::flat) continue;
    simt::kernels::run_with(tile.name, 1, p.backward_weight(on_device));
    check_traffic(element * (under_taps * channels * count(channels, tile.rows) +
                             pixels * channels * count(taps * channels, tile.columns)) +
                  std::int64_t{sizeof(float)} * taps * channels * channels);
  }
}

TEMPLATE_TEST_CASE("tensor cores compute linear layers", "", bf16, float) {
  using T = TestType;
  constexpr std::int64_t m = 70;
  constexpr int in = 40, out = 24;
  const auto values = [](std::int64_t count, unsigned seed) {
    std::vector<T> numbers = normal_values<T>(static_cast<std::size_t>(count), seed);
    round_factors(numbers.data(), numbers.size());
    return numbers;
  };
  Operand<T> x(values(m * in, 1)), weight(values(out * in, 2)), residual(values(m * out, 3)),
      dy(values(m * out, 4)), y(missing_values<T>(dy.size())), dx(missing_values<T>(x.size())),
      dx_add(values(m * in, 8));
  Operand<float> bias(normal_values<float>(out, 5)), dweight(normal_values<float>(weight.size(), 6)),
      dbias(normal_values<float>(out, 7));
  const auto check_one = [](auto params, auto& result, double limit) {
    launch(Reference{}, params(on_host));
    Executor::instance().sum = {};
    simt::kernels::run(tf32, params(on_device));
    if (Executor::counts) CHECK(Executor::instance().sum.matrix_instructions > 0);
    CHECK(error_of(result) < limit);
  };
  check_one(
      [&](auto address) {
        return LinearForward<T>{
            address(x), address(weight), nullptr, address(bias), address(residual), 0.5f, address(y), m, in,
            out};
      },
      y, tolerance);
  check_one(
      [&](auto address) {
        return LinearBackwardData<T>{address(dy), address(weight), nullptr, address(dx), m, in,
                                     out,         address(dx_add)};
      },
      dx, tolerance);
  check_one(
      [&](auto address) {
        return LinearBackwardWeight<T>{address(x), address(dy), address(dweight), m, in, out, address(dbias)};
      },
      dweight, gradient_tolerance);
  CHECK(error_of(dbias) < gradient_tolerance);
}
