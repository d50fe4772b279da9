// SPDX-License-Identifier: MIT
// DType: the element types of tensors in files, with the names safetensors gives them.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include <ddpm/core/dtype.hpp>

namespace ddpm::io {

enum class DType { f64, f32, f16, bf16, i64, i32, i16, i8, u64, u32, u16, u8, boolean };

namespace detail {

struct DTypeRow {
  std::string_view name;
  std::size_t size;
};

// In the order of DType.
inline constexpr std::array<DTypeRow, 13> dtype_rows = {{{"F64", 8},
                                                         {"F32", 4},
                                                         {"F16", 2},
                                                         {"BF16", 2},
                                                         {"I64", 8},
                                                         {"I32", 4},
                                                         {"I16", 2},
                                                         {"I8", 1},
                                                         {"U64", 8},
                                                         {"U32", 4},
                                                         {"U16", 2},
                                                         {"U8", 1},
                                                         {"BOOL", 1}}};

// The value of an IEEE half. A subnormal is a multiple of 2^-24; otherwise the exponent moves from bias 15 to
// 127.
constexpr float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fu;
  const std::uint32_t fraction = half & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t widened = exponent == 0x1fu ? 0xffu : exponent + 112u;
  return std::bit_cast<float>(sign | widened << 23 | fraction << 13);
}

}  // namespace detail

constexpr std::string_view name_of(DType dtype) {
  return detail::dtype_rows[static_cast<std::size_t>(dtype)].name;
}
constexpr std::size_t size_of(DType dtype) {
  return detail::dtype_rows[static_cast<std::size_t>(dtype)].size;
}

constexpr std::optional<DType> dtype_named(std::string_view name) {
  for (std::size_t i = 0; i < detail::dtype_rows.size(); ++i)
    if (detail::dtype_rows[i].name == name) return static_cast<DType>(i);
  return std::nullopt;
}

constexpr bool is_floating_point(DType dtype) { return dtype <= DType::bf16; }

// The DType that holds values of T.
template <class T>
requires Element<T> || std::integral<T>
constexpr DType dtype_of() {
  if constexpr (std::same_as<T, double>) return DType::f64;
  if constexpr (std::same_as<T, float>) return DType::f32;
  if constexpr (std::same_as<T, bf16>) return DType::bf16;
  if constexpr (std::same_as<T, bool>) return DType::boolean;
  constexpr bool is_signed = std::signed_integral<T>;
  if constexpr (std::integral<T> && sizeof(T) == 8) return is_signed ? DType::i64 : DType::u64;
  if constexpr (std::integral<T> && sizeof(T) == 4) return is_signed ? DType::i32 : DType::u32;
  if constexpr (std::integral<T> && sizeof(T) == 2) return is_signed ? DType::i16 : DType::u16;
  if constexpr (std::integral<T> && sizeof(T) == 1) return is_signed ? DType::i8 : DType::u8;
}

}  // namespace ddpm::io
