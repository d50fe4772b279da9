// SPDX-License-Identifier: MIT
// Element types: float, double (Reference only) and bf16 storage, and the type in which each is accumulated.
#pragma once

#include <concepts>
#include <cstdint>

#if defined(__CUDACC__)
#define DDPM_HOST_DEVICE __host__ __device__
#else
#define DDPM_HOST_DEVICE
#endif

namespace ddpm {

// bfloat16 as storage: the upper half of a float, rounded to nearest even; NaN stays NaN.
struct bf16 {
  std::uint16_t bits;

  bf16() = default;
  DDPM_HOST_DEVICE constexpr explicit bf16(float value) : bits(round(__builtin_bit_cast(std::uint32_t, value))) {}
  DDPM_HOST_DEVICE constexpr explicit bf16(double value) : bf16(static_cast<float>(value)) {}
  DDPM_HOST_DEVICE constexpr explicit bf16(int value) : bf16(static_cast<float>(value)) {}
  DDPM_HOST_DEVICE constexpr operator float() const {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
  }

 private:
  DDPM_HOST_DEVICE static constexpr std::uint16_t round(std::uint32_t word) {
    const bool is_nan = (word & 0x7fffffffu) > 0x7f800000u;
    return static_cast<std::uint16_t>((is_nan ? word | 0x400000u : word + 0x7fffu + ((word >> 16) & 1u)) >>
                                      16);
  }
};

template <class T>
concept Element = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, bf16>;

namespace detail {
template <class T>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
}  // namespace detail

// Sums, statistics, master weights, gradients of weights and optimizer state: float, or double for a double
// model.
template <class T>
using Accumulator = typename detail::AccumulatorOf<T>::type;

}  // namespace ddpm
