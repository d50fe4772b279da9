// SPDX-License-Identifier: MIT
// Tensor-core products of one warp and the loads of their fragments: ldmatrix and mma.sync. Layouts: PTX ISA,
// "Matrix Fragments for mma.m16n8k16" and "for mma.m16n8k8".
#pragma once

#include <cstdint>

#include <ddpm/core/dtype.hpp>
#include <ddpm/kernels/arch/target.cuh>
#if defined(DDPM_SIMT_HOST)
#include <ddpm/kernels/arch/mma_host.hpp>
#endif

namespace ddpm::arch {

// Loads Count (1, 2, 4) 8x8 matrices of 16-bit elements. Lanes 8 i to 8 i + 7 give the addresses of the rows
// of matrix i, 16-byte aligned. Register i of lane l gets elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4
// of matrix i.
template <int Count>
__device__ __forceinline__ void ldmatrix(std::uint32_t (&to)[Count], const void* row,
                                         CallSite at = CallSite::current()) {
  static_assert(Count == 1 || Count == 2 || Count == 4, "ldmatrix loads 1, 2 or 4 matrices");
#if defined(DDPM_SIMT_HOST)
  host::ldmatrix<Count, host::MatrixRead::rows>(to, row, at);
#else
  const unsigned from = shared_address_of(row);
  if constexpr (Count == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(to[0]) : "r"(from) : "memory");
  } else if constexpr (Count == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(from)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
  }
#endif
}

// As ldmatrix of the transposed matrices: register i of lane l gets rows 2 (l % 4) and 2 (l % 4) + 1 of
// column l / 4.
template <int Count>
__device__ __forceinline__ void ldmatrix_transposed(std::uint32_t (&to)[Count], const void* row,
                                                    CallSite at = CallSite::current()) {
  static_assert(Count == 1 || Count == 2 || Count == 4, "ldmatrix loads 1, 2 or 4 matrices");
#if defined(DDPM_SIMT_HOST)
  host::ldmatrix<Count, host::MatrixRead::columns>(to, row, at);
#else
  const unsigned from = shared_address_of(row);
  if constexpr (Count == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(to[0])
                 : "r"(from)
                 : "memory");
  } else if constexpr (Count == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(from)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
  }
#endif
}

// d += a b for one 16x8 tile of float and 16 bf16 of depth; a is row-major, b column-major.
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const std::uint32_t (&a)[4],
                                                  const std::uint32_t (&b)[2],
                                                  CallSite at = CallSite::current()) {
#if defined(DDPM_SIMT_HOST)
  host::mma<host::Bf16Fragments>(d, a, b, "mma.m16n8k16.bf16", at);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// d += a b for one 16x8 tile of float and 8 tf32 of depth. Operands are floats rounded by to_tf32.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const std::uint32_t (&a)[4],
                                                 const std::uint32_t (&b)[2],
                                                 CallSite at = CallSite::current()) {
#if defined(DDPM_SIMT_HOST)
  host::mma<host::Tf32Fragments>(d, a, b, "mma.m16n8k8.tf32", at);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// The nearest number with 10 bits of mantissa, ties away from zero; a NaN stays one.
__device__ __forceinline__ std::uint32_t to_tf32(float value) {
#if defined(DDPM_SIMT_HOST)
  return value == value ? (std::bit_cast<std::uint32_t>(value) + 0x1000u) & ~0x1fffu : 0x7fffffffu;
#else
  std::uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
  return rounded;
#endif
}

// Two bf16, the first in the low half, rounded to the nearest, ties to even: neighbours in a fragment.
__device__ __forceinline__ std::uint32_t to_bf16_pair(float first, float second) {
#if defined(DDPM_SIMT_HOST)
  return bf16(first).bits | std::uint32_t{bf16(second).bits} << 16;
#else
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#endif
}

}  // namespace ddpm::arch
