// SPDX-License-Identifier: MIT
// ldmatrix, mma.sync and cp.async on the host. The layouts are written here element by element as the PTX ISA
// states them, apart from the definitions under test.
#include <bit>
#include <random>

#include <ddpm/core/dtype.hpp>

#include "matrix_kernels.hpp"
#include "sim_test.hpp"

using namespace ddpm::simt;
using namespace ddpm::simt::kernels;
using ddpm::bf16;

namespace {

using Matrix = std::vector<std::vector<float>>;

// Small integers: every product and sum is exact, in bf16 and tf32 too.
Matrix random_matrix(std::size_t rows, std::size_t columns, unsigned seed) {
  std::mt19937 engine(seed);
  Matrix matrix(rows, std::vector<float>(columns));
  for (auto& row : matrix)
    for (float& value : row) value = static_cast<float>(static_cast<int>(engine() % 17) - 8);
  return matrix;
}

std::vector<std::uint16_t> as_bf16(const Matrix& matrix) {
  std::vector<std::uint16_t> elements;
  for (const auto& row : matrix)
    for (const float value : row) elements.push_back(bf16(value).bits);
  return elements;
}

float product(const Matrix& a, const Matrix& b, std::size_t row, std::size_t column) {
  float sum = 0;
  for (std::size_t k = 0; k < b.size(); ++k) sum += a[row][k] * b[k][column];
  return sum;
}

struct Place {
  std::size_t row, column;
};

// PTX ISA, figures of m16n8k16 with .bf16: element i of a thread's A (8), B (4) and C (4).
Place bf16_a(std::size_t lane, std::size_t i) {
  const std::size_t group = lane >> 2, member = lane % 4;
  return {(i < 2 || (i >= 4 && i < 6)) ? group : group + 8, member * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
}
Place bf16_b(std::size_t lane, std::size_t i) {
  return {(lane % 4) * 2 + (i & 1) + (i >= 2 ? 8 : 0), lane >> 2};
}
Place c_of(std::size_t lane, std::size_t i) {
  return {(i < 2 ? 0 : 8) + (lane >> 2), (lane % 4) * 2 + (i & 1)};
}

// The same of m16n8k8 with .tf32: A (4), B (2).
Place tf32_a(std::size_t lane, std::size_t i) {
  const std::size_t group = lane >> 2, member = lane % 4;
  return {(i == 0 || i == 2) ? group : group + 8, (i == 0 || i == 1) ? member : member + 4};
}
Place tf32_b(std::size_t lane, std::size_t i) { return {i == 0 ? lane % 4 : lane % 4 + 4, lane >> 2}; }

float at(const Matrix& matrix, Place place) { return matrix[place.row][place.column]; }

struct Fragments {
  std::vector<std::uint32_t> a = std::vector<std::uint32_t>(128), b = std::vector<std::uint32_t>(64);
};

void check_products(const Fragments& fragments, const Matrix& a, const Matrix& b,
                    void (*run)(const MmaParams&)) {
  const Matrix c = random_matrix(16, 8, 3);
  std::vector<float> start(128);
  for (std::size_t lane = 0; lane < 32; ++lane)
    for (std::size_t i = 0; i < 4; ++i) start[lane * 4 + i] = at(c, c_of(lane, i));
  const DeviceArray<std::uint32_t> a_words(fragments.a), b_words(fragments.b);
  for_all_schedules([&] {
    const DeviceArray<float> d(start);
    run({a_words.data(), b_words.data(), d.data()});
    const std::vector<float> result = d.host();
    for (std::size_t lane = 0; lane < 32; ++lane)
      for (std::size_t i = 0; i < 4; ++i) {
        const Place place = c_of(lane, i);
        REQUIRE(result[lane * 4 + i] == at(c, place) + product(a, b, place.row, place.column));
      }
  });
  if (Executor::counts) CHECK(Executor::instance().counters().matrix_instructions == 1);
}

}  // namespace

TEST_CASE("ldmatrix gives each lane two neighbours of a row") {
  std::vector<std::uint16_t> in(256);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::uint16_t>(i);
  const DeviceArray<std::uint16_t> source(in);
  for (const std::size_t matrices : {1u, 2u, 4u}) {
    DeviceArray<std::uint32_t> out(32 * matrices);
    run_ldmatrix(static_cast<int>(matrices), source.data(), out.data());
    for (std::size_t lane = 0; lane < 32; ++lane)
      for (std::size_t i = 0; i < matrices; ++i) {
        const std::uint32_t first = in[(8 * i + lane / 4) * 8 + lane % 4 * 2];
        REQUIRE(out.host()[lane * matrices + i] == (first | (first + 1) << 16));
      }
    run_ldmatrix_transposed(static_cast<int>(matrices), source.data(), out.data());
    for (std::size_t lane = 0; lane < 32; ++lane)
      for (std::size_t i = 0; i < matrices; ++i) {
        const std::uint32_t first = in[(8 * i + lane % 4 * 2) * 8 + lane / 4];
        REQUIRE(out.host()[lane * matrices + i] == (first | (first + 8) << 16));
      }
  }
}

TEST_CASE("mma.m16n8k16 of bf16 multiplies in the layout of the PTX ISA") {
  const Matrix a = random_matrix(16, 16, 1), b = random_matrix(16, 8, 2);
  Fragments fragments;
  for (std::size_t lane = 0; lane < 32; ++lane) {
    for (std::size_t i = 0; i < 8; ++i)
      fragments.a[lane * 4 + i / 2] |= std::uint32_t{bf16(at(a, bf16_a(lane, i))).bits} << 16 * (i % 2);
    for (std::size_t i = 0; i < 4; ++i)
      fragments.b[lane * 2 + i / 2] |= std::uint32_t{bf16(at(b, bf16_b(lane, i))).bits} << 16 * (i % 2);
  }
  check_products(fragments, a, b, run_mma_bf16);
}

TEST_CASE("mma.m16n8k8 of tf32 multiplies in the layout of the PTX ISA and ignores low bits") {
  const Matrix a = random_matrix(16, 8, 1), b = random_matrix(8, 8, 2);
  Fragments fragments;
  constexpr std::uint32_t ignored = 0x1fffu;
  for (std::size_t lane = 0; lane < 32; ++lane) {
    for (std::size_t i = 0; i < 4; ++i)
      fragments.a[lane * 4 + i] = std::bit_cast<std::uint32_t>(at(a, tf32_a(lane, i))) | ignored;
    for (std::size_t i = 0; i < 2; ++i)
      fragments.b[lane * 2 + i] = std::bit_cast<std::uint32_t>(at(b, tf32_b(lane, i))) | ignored;
  }
  check_products(fragments, a, b, run_mma_tf32);
}

TEST_CASE("to_tf32 rounds to 10 bits, ties away from zero") {
  const std::vector<float> in = {1.0f, 1.0f + 0x1p-10f, 1.0f + 0x1p-11f, -1.0f - 0x1p-11f, 1.0f + 0x1.fp-12f,
                                 0.0f, -INFINITY,       0x1.ffp-127f,    0x1p-149f};
  const std::vector<float> rounded = {
      1.0f, 1.0f + 0x1p-10f, 1.0f + 0x1p-10f, -1.0f - 0x1p-10f, 1.0f, 0.0f, -INFINITY, 0x1.ffp-127f, 0.0f};
  const DeviceArray<float> source(in);
  DeviceArray<std::uint32_t> out(in.size());
  run_to_tf32(source.data(), out.data(), static_cast<int>(in.size()));
  for (std::size_t i = 0; i < in.size(); ++i) CHECK(std::bit_cast<float>(out.host()[i]) == rounded[i]);
  const DeviceArray<float> no_numbers(std::vector<float>{NAN, -NAN, std::bit_cast<float>(0x7fffffffu)});
  run_to_tf32(no_numbers.data(), out.data(), 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(std::isnan(std::bit_cast<float>(out.host()[i] & ~0x1fffu)));
}

TEST_CASE("to_bf16_pair rounds to 7 bits, ties to even") {
  const std::vector<float> in = {1.0f,           1.0f + 0x1p-7f,    1.0f + 0x1p-8f,
                                 1.0f + 0x3p-8f, -1.0f - 0x1.1p-8f, 0.0f};
  const std::vector<float> rounded = {1.0f, 1.0f + 0x1p-7f, 1.0f, 1.0f + 0x1p-6f, -1.0f - 0x1p-7f, 0.0f};
  const DeviceArray<float> source(in);
  DeviceArray<std::uint32_t> out(in.size());
  run_to_bf16_pair(source.data(), out.data(), static_cast<int>(in.size()));
  for (std::size_t i = 0; i < in.size(); ++i) {
    CHECK(std::bit_cast<float>(out.host()[i] << 16) == rounded[i]);
    CHECK(std::bit_cast<float>(out.host()[i] & 0xffff0000u) == -2 * rounded[i]);
  }
}

TEST_CASE("ldmatrix and mma together multiply row-major tiles") {
  const Matrix a = random_matrix(16, 16, 5), b_rows = random_matrix(8, 16, 6);
  const DeviceArray<std::uint16_t> a_device(as_bf16(a)), b_device(as_bf16(b_rows));
  DeviceArray<float> out(128);
  for_all_schedules([&] {
    run_tile_product({a_device.data(), b_device.data(), out.data()});
    for (std::size_t row = 0; row < 16; ++row)
      for (std::size_t column = 0; column < 8; ++column) {
        float sum = 0;
        for (std::size_t k = 0; k < 16; ++k) sum += a[row][k] * b_rows[column][k];
        REQUIRE(out.host()[row * 8 + column] == sum);
      }
  });
}

TEST_CASE("cp.async copies and fills with zeros") {
  for (const std::size_t width : {4u, 8u, 16u}) {
    std::vector<unsigned char> in(32 * width);
    std::vector<int> source_bytes(32);
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<unsigned char>(i % 251 + 1);
    for (std::size_t lane = 0; lane < 32; ++lane) source_bytes[lane] = static_cast<int>(lane % (width + 1));
    const DeviceArray<unsigned char> source(in);
    const DeviceArray<int> sizes(source_bytes);
    DeviceArray<unsigned char> out(in.size());
    for_all_schedules([&] {
      run_copy(static_cast<int>(width), {source.data(), sizes.data(), out.data()});
      for (std::size_t lane = 0; lane < 32; ++lane)
        for (std::size_t i = 0; i < width; ++i)
          REQUIRE(out.host()[lane * width + i] ==
                  (static_cast<int>(i) < source_bytes[lane] ? in[lane * width + i] : 0));
    });
  }
}

TEST_CASE("groups of cp.async stream through two buffers") {
  constexpr int steps = 7;
  std::vector<float> in(steps * 32);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i);
  const DeviceArray<float> source(in);
  DeviceArray<float> out(32);
  for_all_schedules([&] {
    run_stream({source.data(), out.data(), steps});
    for (std::size_t lane = 0; lane < 32; ++lane)
      REQUIRE(out.host()[lane] == static_cast<float>(steps * lane + 32 * (steps - 1) * steps / 2));
  });
}
