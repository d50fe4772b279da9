// SPDX-License-Identifier: MIT
// Elements out of a file, in another order and of another type, by all threads.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <ddpm/core/dtype.hpp>
#include <ddpm/core/parallel.hpp>
#include <ddpm/io/dtype.hpp>

namespace ddpm::io::detail {

// The type of a half in a file.
struct Half {
  std::uint16_t bits;
  operator float() const { return half_to_float(bits); }
};

// Calls f(std::type_identity<Source>{}) with the C++ type of the bits of a dtype.
template <class F>
void with_element_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f64:
      return f(std::type_identity<double>{});
    case DType::f32:
      return f(std::type_identity<float>{});
    case DType::f16:
      return f(std::type_identity<Half>{});
    case DType::bf16:
      return f(std::type_identity<bf16>{});
    case DType::i64:
      return f(std::type_identity<std::int64_t>{});
    case DType::i32:
      return f(std::type_identity<std::int32_t>{});
    case DType::i16:
      return f(std::type_identity<std::int16_t>{});
    case DType::i8:
      return f(std::type_identity<std::int8_t>{});
    case DType::u64:
      return f(std::type_identity<std::uint64_t>{});
    case DType::u32:
      return f(std::type_identity<std::uint32_t>{});
    case DType::u16:
      return f(std::type_identity<std::uint16_t>{});
    case DType::u8:
    case DType::boolean:
      break;
  }
  return f(std::type_identity<std::uint8_t>{});
}

// Element [a, b, c, d] is number a * stride[0] + b * stride[1] + c * stride[2] + d * stride[3] of what is
// read.
struct Layout {
  std::array<std::int64_t, 4> extent, stride;

  static Layout flat(std::int64_t count) { return {{1, 1, 1, count}, {0, 0, 0, 1}}; }
  std::int64_t numel() const { return extent[0] * extent[1] * extent[2] * extent[3]; }
};

// out[i] = element i * stride behind `from`, which need not be aligned.
template <class Source, class T>
void gather_row(const std::byte* from, std::int64_t stride, std::int64_t count, T* out) {
  if constexpr (std::same_as<Source, T>)
    if (stride == 1) {
      std::memcpy(out, from, static_cast<std::size_t>(count) * sizeof(T));
      return;
    }
  for (std::int64_t i = 0; i < count; ++i) {
    Source value;
    std::memcpy(&value, from + i * stride * std::ptrdiff_t{sizeof(Source)}, sizeof(Source));
    if constexpr (std::same_as<Source, bf16> || std::same_as<Source, Half>)
      out[i] = static_cast<T>(static_cast<float>(value));
    else
      out[i] = static_cast<T>(value);
  }
}

// Writes the elements of the layout to `out`, the last axis running fastest.
template <class Source, class T>
void gather(const std::byte* from, const Layout& layout, T* out) {
  constexpr std::int64_t grain = 1 << 16;  // elements that are worth a task
  constexpr std::ptrdiff_t size = sizeof(Source);
  const std::int64_t n0 = layout.extent[0], n1 = layout.extent[1], n2 = layout.extent[2],
                     n3 = layout.extent[3];
  const std::array<std::int64_t, 4>& stride = layout.stride;
  if (layout.numel() == 0) return;
  if (layout.numel() == n3) {
    parallel_ranges(n3, grain, [&](std::int64_t first, std::int64_t last) {
      gather_row<Source>(from + first * stride[3] * size, stride[3], last - first, out + first);
    });
    return;
  }
  const std::int64_t slab = n1 * n2 * n3;
  parallel_ranges(n0, std::max<std::int64_t>(1, grain / slab), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t a = first; a < last; ++a)
      for (std::int64_t b = 0; b < n1; ++b)
        for (std::int64_t c = 0; c < n2; ++c)
          gather_row<Source>(from + (a * stride[0] + b * stride[1] + c * stride[2]) * size, stride[3], n3,
                             out + a * slab + (b * n2 + c) * n3);
  });
}

}  // namespace ddpm::io::detail
