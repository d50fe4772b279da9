// SPDX-License-Identifier: MIT
// mbarrier, TMA and wgmma on the host, against layouts written out from the PTX ISA.
#include <random>

#include "hopper_kernels.hpp"
#include "sim_test.hpp"

using namespace ddpm::simt;
using namespace ddpm::simt::kernels;
using ddpm::bf16;
using ddpm::make_tensor_map;
using ddpm::TensorTile;

namespace {

// Element `index` of a tensor that holds its own position, so that any misplaced one is told apart.
std::vector<float> positions(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i + 1);
  return values;
}

float read_float(const std::vector<unsigned char>& bytes, std::size_t at) {
  float value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

struct LoadCase {
  TensorTile tile;
  int first[4];
};

// Element x of row `row` of a swizzled tile: its 16-byte chunk c lies at c xor (row mod 8).
std::size_t swizzled(std::size_t row, std::size_t x) {
  return row * 128 + ((x / 4) ^ (row % 8)) * 16 + x % 4 * 4;
}

void check_load(const LoadCase& load, std::size_t tensor_elements) {
  const std::vector<float> tensor = positions(tensor_elements);
  const DeviceArray<float> source(tensor);
  std::size_t rows = 1;
  for (int axis = 1; axis < load.tile.rank; ++axis) rows *= load.tile.box[axis];
  DeviceArray<unsigned char> out(rows * 128);
  TileLoad params{make_tensor_map(static_cast<const float*>(source.data()), load.tile),
                  {},
                  static_cast<unsigned>(rows),
                  out.data()};
  std::copy(load.first, load.first + 4, params.first);
  for_all_schedules([&] {
    run_tile_load(load.tile.rank, params);
    const std::vector<unsigned char> bytes = out.host();
    for (std::size_t row = 0; row < rows; ++row)
      for (std::size_t x = 0; x < 32; ++x) {
        std::int64_t offset = 0;
        bool inside = true;
        std::size_t rest = row;
        for (int axis = 0; axis < load.tile.rank; ++axis) {
          const auto step = static_cast<std::int64_t>(axis == 0 ? x : rest % load.tile.box[axis]);
          if (axis > 0) rest /= load.tile.box[axis];
          const std::int64_t index = load.first[axis] + step;
          inside = inside && index >= 0 && index < static_cast<std::int64_t>(load.tile.size[axis]);
          offset += index * static_cast<std::int64_t>(load.tile.stride[axis]);
        }
        const float expected = inside ? tensor[static_cast<std::size_t>(offset)] : 0.0f;
        REQUIRE(read_float(bytes, swizzled(row, x)) == expected);
      }
  });
  CHECK(Executor::instance().counters().bulk_copies == 1);
}

}  // namespace

TEST_CASE("TMA loads tiles of 2 to 4 axes, swizzled, with zeros outside") {
  SECTION("inside of a matrix") { check_load({{2, {64, 20}, {1, 64}, {32, 16}}, {32, 4, 0, 0}}, 64 * 20); }
  SECTION("over the end of both axes") {
    check_load({{2, {44, 20}, {1, 44}, {32, 16}}, {30, 11, 0, 0}}, 44 * 20);
  }
  SECTION("before the start of both axes") {
    check_load({{2, {44, 20}, {1, 44}, {32, 16}}, {-3, -2, 0, 0}}, 44 * 20);
  }
  SECTION("of 3 axes") { check_load({{3, {32, 6, 5}, {1, 32, 192}, {32, 4, 3}}, {0, -1, 3, 0}}, 32 * 6 * 5); }
  SECTION("of 4 axes, as a convolution's halo") {
    check_load({{4, {36, 5, 4, 3}, {1, 36, 180, 720}, {32, 3, 4, 2}}, {4, -1, 2, 1}}, 36 * 5 * 4 * 3);
  }
}

TEST_CASE("wgmma multiplies tiles that TMA has laid out") {
  const auto [n, a_order, b_order] =
      GENERATE(ProductKind{64, OperandOrder::depth_contiguous, OperandOrder::depth_contiguous},
               ProductKind{128, OperandOrder::depth_contiguous, OperandOrder::depth_strided},
               ProductKind{128, OperandOrder::depth_strided, OperandOrder::depth_contiguous},
               ProductKind{192, OperandOrder::depth_strided, OperandOrder::depth_strided},
               ProductKind{256, OperandOrder::depth_contiguous, OperandOrder::depth_contiguous},
               ProductKind{256, OperandOrder::depth_strided, OperandOrder::depth_strided});
  constexpr std::size_t m_size = 64, k_size = 64;
  const auto n_size = static_cast<std::size_t>(n);
  std::mt19937 engine(4);
  const auto draw = [&] { return static_cast<float>(static_cast<int>(engine() % 9) - 4); };
  std::vector<float> a(m_size * k_size), b(k_size * n_size), start(m_size * n_size);
  for (auto* values : {&a, &b, &start})
    for (float& value : *values) value = draw();
  std::vector<bf16> a_stored(a.size()), b_stored(b.size());
  for (std::size_t k = 0; k < k_size; ++k) {
    for (std::size_t m = 0; m < m_size; ++m)
      a_stored[a_order == OperandOrder::depth_contiguous ? m * k_size + k : k * m_size + m] =
          bf16(a[m * k_size + k]);
    for (std::size_t j = 0; j < n_size; ++j)
      b_stored[b_order == OperandOrder::depth_contiguous ? j * k_size + k : k * n_size + j] =
          bf16(b[k * n_size + j]);
  }
  const DeviceArray<bf16> a_device(a_stored), b_device(b_stored);
  const auto map = [](const bf16* data, std::uint64_t inner, std::uint64_t outer, std::uint32_t box_rows) {
    return make_tensor_map(data, {2, {inner, outer}, {1, inner}, {64, box_rows}});
  };
  const auto a_map = map(a_device.data(), 64, 64, 64);
  const auto b_map = b_order == OperandOrder::depth_contiguous
                         ? map(b_device.data(), k_size, n_size, static_cast<unsigned>(n))
                         : map(b_device.data(), n_size, k_size, 64);
  for (const Schedule& schedule : {Schedule{}, Schedule{Order::reverse, Landing::early, 1},
                                   Schedule{Order::random_threads, Landing::random, 2}}) {
    Executor::instance().schedule = schedule;
    for (const int adds : {0, 1}) {
      const DeviceArray<float> d(start);
      run_warpgroup_product({n, a_order, b_order}, {a_map, b_map, d.data(), adds});
      const std::vector<float> result = d.host();
      for (std::size_t m = 0; m < m_size; ++m)
        for (std::size_t j = 0; j < n_size; ++j) {
          float expected = adds ? start[m * n_size + j] : 0.0f;
          for (std::size_t k = 0; k < k_size; ++k) expected += a[m * k_size + k] * b[k * n_size + j];
          REQUIRE(result[m * n_size + j] == expected);
        }
      CHECK(Executor::instance().counters().matrix_instructions == 4);
    }
  }
  Executor::instance().schedule = {};
}

TEST_CASE("mbarriers let one warp produce for another") {
  constexpr std::size_t steps = 9;
  const std::vector<float> in = positions(steps * 32);
  const DeviceArray<float> source(in);
  DeviceArray<float> out(32);
  for_all_schedules([&] {
    run_ring({source.data(), out.data(), static_cast<int>(steps)});
    for (std::size_t lane = 0; lane < 32; ++lane) {
      float expected = 0;
      for (std::size_t step = 0; step < steps; ++step) expected += in[step * 32 + lane];
      REQUIRE(out.host()[lane] == expected);
    }
  });
}

TEST_CASE("make_tensor_map refuses what the TMA unit cannot load") {
  const DeviceArray<float> source(1024);
  const float* data = source.data();
  CHECK_THROWS_AS(make_tensor_map(data, {1, {32, 8}, {1, 32}, {32, 8}}), ddpm::ConfigError);
  CHECK_THROWS_AS(make_tensor_map(data, {2, {32, 8}, {1, 33}, {32, 8}}), ddpm::ConfigError);
  CHECK_THROWS_AS(make_tensor_map(data, {2, {32, 8}, {1, 32}, {16, 8}}), ddpm::ConfigError);
  CHECK_THROWS_AS(make_tensor_map(data, {2, {32, 8}, {1, 32}, {32, 300}}), ddpm::ConfigError);
  CHECK_THROWS_AS(make_tensor_map(data + 1, {2, {32, 8}, {1, 32}, {32, 8}}), ddpm::ConfigError);
}
