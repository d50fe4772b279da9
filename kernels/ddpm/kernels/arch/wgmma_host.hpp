// SPDX-License-Identifier: MIT
// What wgmma does, for the host: operands are read and results appear at some moment between issue and wait.
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <utility>

#include <ddpm/kernels/arch/swizzle.cuh>
#include <ddpm/kernels/arch/target.cuh>

namespace ddpm::arch::host {

struct WgmmaSlot {
  std::uint64_t a;
  std::uint64_t b;
  float* d;
  bool add;
  CallSite at;

  bool same_operands(const WgmmaSlot& other) const {
    return a == other.a && b == other.b && add == other.add;
  }
};

// Byte offset in shared memory of element (row, k) of an operand; row counts m of A or n of B.
template <bool RowsContiguous>
std::uint32_t operand_offset(std::uint64_t descriptor, unsigned row, unsigned k) {
  const auto field = [&](int bit) { return static_cast<std::uint32_t>(descriptor >> bit & 0x3fffu) << 4; };
  const std::uint32_t start = field(0), leading = field(16), stride = field(32);
  if constexpr (RowsContiguous)
    return swizzle_128(start + row / 64 * leading + k / 8 * stride + k % 8 * 128 + row % 64 * 2);
  else
    return swizzle_128(start + row / 8 * stride + row % 8 * 128 + k * 2);
}

template <bool RowsContiguous>
void add_operand_ranges(std::vector<simt::SharedRange>& ranges, std::uint64_t descriptor, unsigned rows) {
  constexpr unsigned depth = 16, chunk_elements = 8;
  for (unsigned row = 0; row < rows; row += RowsContiguous ? chunk_elements : 1)
    for (unsigned k = 0; k < depth; k += RowsContiguous ? 1 : chunk_elements)
      ranges.push_back({operand_offset<RowsContiguous>(descriptor, row, k), 16});
}

template <int N>
struct WgmmaProduct {
  std::array<std::array<float, N>, 64> value{};
  bool computed = false;

  template <bool RowsOfA, bool RowsOfB>
  void compute(std::uint64_t a, std::uint64_t b, CallSite at) {
    if (std::exchange(computed, true)) return;
    constexpr unsigned depth = 16;
    float rows[64][depth], columns[depth][N];
    const auto element = [&](std::uint32_t offset) {
      std::uint16_t bits;
      simt::shared_peek(&bits, offset, sizeof bits, at);
      return std::bit_cast<float>(std::uint32_t{bits} << 16);
    };
    for (unsigned k = 0; k < depth; ++k) {
      for (unsigned m = 0; m < 64; ++m) rows[m][k] = element(operand_offset<RowsOfA>(a, m, k));
      for (unsigned n = 0; n < N; ++n) columns[k][n] = element(operand_offset<RowsOfB>(b, n, k));
    }
    simt::multiply({rows[0], columns[0], value[0].data(), 64, N, depth});
  }
};

// Issues the product for the whole warpgroup, whose threads have all arrived.
template <int N, bool RowsOfA, bool RowsOfB>
void issue_wgmma(void* const* slots, unsigned) {
  const auto& first = *static_cast<const WgmmaSlot*>(slots[0]);
  if (first.a >> 62 != 1 || first.b >> 62 != 1)
    simt::fail("wgmma: only the 128-byte swizzle is emulated", first.at);
  std::vector<simt::SharedRange> ranges;
  add_operand_ranges<RowsOfA>(ranges, first.a, 64);
  add_operand_ranges<RowsOfB>(ranges, first.b, N);
  const auto product = std::make_shared<WgmmaProduct<N>>();
  const int first_thread = simt::thread_in_block() / 128 * 128;
  for (int thread = 0; thread < 128; ++thread) {
    const auto slot = *static_cast<const WgmmaSlot*>(slots[thread]);
    if (!slot.same_operands(first))
      simt::fail("wgmma: the threads of the warpgroup bring different operands", slot.at);
    const auto finish = [=] {
      product->template compute<RowsOfA, RowsOfB>(slot.a, slot.b, slot.at);
      for (int i = 0; i < N / 2; ++i) {
        const int row = 16 * (thread / 32) + thread % 32 / 4 + 8 * (i / 2 % 2),
                  column = 8 * (i / 4) + 2 * (thread % 4) + i % 2;
        const float sum = product->value[static_cast<std::size_t>(row)][static_cast<std::size_t>(column)];
        slot.d[i] = slot.add ? slot.d[i] + sum : sum;
      }
    };
    simt::matrix_async({first_thread + thread, {slot.d, N / 2}, std::exchange(ranges, {}), finish}, slot.at);
  }
}

template <int N, bool RowsOfA, bool RowsOfB>
void wgmma(WgmmaSlot slot) {
  simt::warpgroup_rendezvous({"wgmma", simt::WarpOperation::matrix, issue_wgmma<N, RowsOfA, RowsOfB>}, &slot,
                             slot.at);
}

}  // namespace ddpm::arch::host
