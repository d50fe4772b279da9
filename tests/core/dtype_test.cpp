// SPDX-License-Identifier: MIT
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>

#include <ddpm/core/dtype.hpp>

#include "catch_shim.hpp"

using namespace ddpm;

namespace {

// The finite bf16 nearest to x, ties to an even mantissa, by search among the neighbours in double.
std::uint16_t nearest_bf16(double x) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(x) ? 0x8000 : 0);
  const double magnitude = std::abs(x);
  const auto value = [](std::uint32_t bits) {  // of the positive bf16 `bits`; 0x7f80, infinity, as 2^128
    const std::uint32_t exponent = bits >> 7, mantissa = bits & 0x7f;
    return exponent == 0
               ? std::ldexp(static_cast<double>(mantissa), -126 - 7)
               : std::ldexp(static_cast<double>(0x80 | mantissa), static_cast<int>(exponent) - 127 - 7);
  };
  std::uint32_t low = 0, high = 0x7f80;  // value(low) <= magnitude < value(high)
  if (magnitude >= value(high)) return sign | 0x7f80;
  while (high - low > 1) {
    const std::uint32_t middle = (low + high) / 2;
    (value(middle) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - value(low), above = value(high) - magnitude;
  const bool up = below > above || (below == above && (low & 1) != 0);
  return static_cast<std::uint16_t>(sign | (up ? high : low));
}

float from_bits(std::uint32_t bits) { return std::bit_cast<float>(bits); }

}  // namespace

TEST_CASE("bf16 rounds to nearest even, denormals and overflow included", "[dtype]") {
  std::mt19937 random(5);
  int wrong = 0;
  const auto check_one = [&](float x) { wrong += bf16(x).bits != nearest_bf16(static_cast<double>(x)); };
  for (int i = 0; i < 200000; ++i) {
    const float x = from_bits(static_cast<std::uint32_t>(random()));
    if (!std::isnan(x)) check_one(x);
  }
  // around every boundary: exact, half way, and one unit to either side of it
  for (std::uint32_t upper = 0; upper < 0x7f80; ++upper)
    for (const std::uint32_t lower : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      check_one(from_bits(upper << 16 | lower));
      check_one(-from_bits(upper << 16 | lower));
    }
  CHECK(wrong == 0);
}

TEST_CASE("bf16 keeps infinity and NaN", "[dtype]") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(bf16(infinity).bits == 0x7f80);
  CHECK(bf16(-infinity).bits == 0xff80);
  CHECK(bf16(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(bf16(-0.0f).bits == 0x8000);
  for (const std::uint32_t bits : {0x7f800001u, 0x7fffffffu, 0x7fc00000u, 0xff800001u, 0xffffffffu}) {
    const bf16 narrowed(from_bits(bits));
    CHECK(std::isnan(static_cast<float>(narrowed)));
    CHECK((narrowed.bits & 0x8000) == (bits >> 16 & 0x8000));
  }
}

TEST_CASE("every bf16 survives the way to float and back", "[dtype]") {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    bf16 value{};
    value.bits = static_cast<std::uint16_t>(bits);
    const bf16 back(static_cast<float>(value));
    const bool is_nan = (bits & 0x7fff) > 0x7f80;
    wrong += is_nan ? !std::isnan(static_cast<float>(back)) : back.bits != bits;
  }
  CHECK(wrong == 0);
}

TEST_CASE("bf16 is two plain bytes", "[dtype]") {
  static_assert(sizeof(bf16) == 2 && std::is_trivially_copyable_v<bf16> && std::is_trivial_v<bf16>);
  static_assert(bf16(1.0f).bits == 0x3f80 && static_cast<float>(bf16(1.5)) == 1.5f && bf16(3).bits == 0x4040);
  static_assert(Element<float> && Element<double> && Element<bf16> && !Element<int>);
  static_assert(std::same_as<Accumulator<float>, float> && std::same_as<Accumulator<bf16>, float> &&
                std::same_as<Accumulator<double>, double>);
}
