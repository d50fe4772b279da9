// SPDX-License-Identifier: MIT
// What ldmatrix and mma.sync do, for the host. Layouts: PTX ISA, section "Matrix multiply-accumulate using
// mma".
#pragma once

#include <bit>
#include <cstring>

#include <ddpm/core/dtype.hpp>
#include <ddpm/kernels/arch/target.cuh>

namespace ddpm::arch::host {

enum class MatrixRead { rows, columns };

struct MatrixRow {
  std::uint16_t element[8];
  std::uint32_t* to;
};

// Element (row, column) of matrix `index`, whose rows are those that lanes 8 index to 8 index + 7 brought.
template <MatrixRead Read>
std::uint32_t matrix_element(void* const* slots, int index, int row, int column) {
  if constexpr (Read == MatrixRead::columns) std::swap(row, column);
  return static_cast<const MatrixRow*>(slots[8 * index + row])->element[column];
}

template <int Count, MatrixRead Read>
void ldmatrix(std::uint32_t* to, const void* row, CallSite at) {
  MatrixRow slot{{}, to};
  const char* name = Read == MatrixRead::rows ? "ldmatrix" : "ldmatrix.trans";
  if (simt::lane() < 8 * Count) {
    simt::shared_offset(row, sizeof slot.element, at);
    simt::load(slot.element, row, sizeof slot.element, name, at);
  }
  const auto combine = [](void* const* slots, unsigned) {
    for (int lane = 0; lane < warp_size; ++lane)
      for (int i = 0; i < Count; ++i) {
        const int row_of_lane = lane / 4, first = lane % 4 * 2;
        static_cast<MatrixRow*>(slots[lane])->to[i] = matrix_element<Read>(slots, i, row_of_lane, first) |
                                                      matrix_element<Read>(slots, i, row_of_lane, first + 1)
                                                          << 16;
      }
  };
  simt::warp_rendezvous(full_warp, {name, simt::WarpOperation::exchange, combine}, &slot, at);
}

inline float bf16_half(std::uint32_t pair, int half) {
  return std::bit_cast<float>(half == 0 ? pair << 16 : pair & 0xffff0000u);
}

// Where the elements of A (16 x depth) and B (depth x 8) lie: `group` is lane / 4, `member` lane % 4.
struct Bf16Fragments {
  static constexpr int depth = 16;
  template <class A, class B>
  static void unpack(int lane, const std::uint32_t* a, const std::uint32_t* b, A& a_at, B& b_at) {
    const int group = lane / 4, member = lane % 4;
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 4; ++i)
        a_at[group + 8 * (i % 2)][2 * member + half + 8 * (i / 2)] = bf16_half(a[i], half);
      for (int i = 0; i < 2; ++i) b_at[2 * member + half + 8 * i][group] = bf16_half(b[i], half);
    }
  }
};

struct Tf32Fragments {
  static constexpr int depth = 8;
  template <class A, class B>
  static void unpack(int lane, const std::uint32_t* a, const std::uint32_t* b, A& a_at, B& b_at) {
    const int group = lane / 4, member = lane % 4;
    const auto value = [](std::uint32_t word) {
      return std::bit_cast<float>(word & ~0x1fffu);
    };  // the rest is ignored
    for (int i = 0; i < 4; ++i) a_at[group + 8 * (i % 2)][member + 4 * (i / 2)] = value(a[i]);
    for (int i = 0; i < 2; ++i) b_at[member + 4 * i][group] = value(b[i]);
  }
};

struct MmaSlot {
  float* d;
  const std::uint32_t* a;
  const std::uint32_t* b;
};

// The hardware's order of summation is not documented; this one is by rising depth, in float.
template <class Fragments>
void multiply(void* const* slots, unsigned) {
  float a[16][Fragments::depth], b[Fragments::depth][8];
  for (int lane = 0; lane < warp_size; ++lane) {
    const auto& slot = *static_cast<const MmaSlot*>(slots[lane]);
    Fragments::unpack(lane, slot.a, slot.b, a, b);
  }
  for (int lane = 0; lane < warp_size; ++lane)
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
      float& sum = static_cast<const MmaSlot*>(slots[lane])->d[i];
      for (int k = 0; k < Fragments::depth; ++k) sum += a[row][k] * b[k][column];
    }
}

template <class Fragments>
void mma(float* d, const std::uint32_t* a, const std::uint32_t* b, const char* name, CallSite at) {
  MmaSlot slot{d, a, b};
  simt::warp_rendezvous(full_warp, {name, simt::WarpOperation::matrix, multiply<Fragments>}, &slot, at);
}

}  // namespace ddpm::arch::host
