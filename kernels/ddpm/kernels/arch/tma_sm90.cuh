// SPDX-License-Identifier: MIT
// TMA: copies of tiles of a tensor in global memory to shared memory, with the 128-byte swizzle and zeros
// outside of the tensor.
#pragma once

#include <cstdint>

#include <ddpm/core/dtype.hpp>
#include <ddpm/core/error.hpp>
#include <ddpm/kernels/arch/target.cuh>

#if defined(DDPM_SIMT_HOST)
#include <ddpm/kernels/arch/tma_host.hpp>
#else
#include <cuda.h>
#include <cuda_runtime_api.h>
#endif

namespace ddpm {

inline constexpr unsigned swizzle_width = 128;  // bytes: a row of the tile

// A tensor of 2 to 4 axes and the tile that one load copies; the innermost axis, which is contiguous, comes
// first.
struct TensorTile {
  int rank;
  std::uint64_t size[4];    // elements
  std::uint64_t stride[4];  // elements; a multiple of 16 bytes but for stride[0], which is 1
  std::uint32_t box[4];     // elements of the tile, at most 256; box[0] of them are swizzle_width bytes
};

#if defined(DDPM_SIMT_HOST)
using TensorMap = arch::host::TensorMap;
#else
using TensorMap = CUtensorMap;
#endif

namespace detail {

inline void check_tensor_tile(const void* base, unsigned element_bytes, const TensorTile& tile) {
  check<ConfigError>(tile.rank >= 2 && tile.rank <= 4, "make_tensor_map: rank ", tile.rank,
                     ", expected 2 to 4");
  check<ConfigError>(reinterpret_cast<std::uintptr_t>(base) % 16 == 0,
                     "make_tensor_map: the tensor is not 16-byte aligned");
  check<ConfigError>(tile.box[0] * element_bytes == swizzle_width, "make_tensor_map: rows of the tile have ",
                     tile.box[0] * element_bytes, " bytes, expected ", swizzle_width);
  for (int axis = 0; axis < tile.rank; ++axis) {
    check<ConfigError>(tile.box[axis] >= 1 && tile.box[axis] <= 256, "make_tensor_map: axis ", axis,
                       " of the tile has ", tile.box[axis], " elements, expected 1 to 256");
    check<ConfigError>(axis == 0 || tile.stride[axis] * element_bytes % 16 == 0, "make_tensor_map: stride ",
                       axis, " is ", tile.stride[axis] * element_bytes, " bytes, expected a multiple of 16");
  }
}

}  // namespace detail

// Describes float or bf16 tiles of the tensor at `base` to the TMA unit. Kernels take it as part of their
// parameters.
template <class T>
TensorMap make_tensor_map(const T* base, const TensorTile& tile) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, bf16>);
  detail::check_tensor_tile(base, sizeof(T), tile);
#if defined(DDPM_SIMT_HOST)
  TensorMap map{base, sizeof(T), tile.rank, {}, {}, {}};
  for (int axis = 0; axis < tile.rank; ++axis) {
    map.size[axis] = static_cast<std::int64_t>(tile.size[axis]);
    map.stride[axis] = static_cast<std::int64_t>(tile.stride[axis]);
    map.box[axis] = static_cast<int>(tile.box[axis]);
  }
  return map;
#else
  // Taken from the driver at run time, so that programs need not link libcuda.
  void* encode = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000, cudaEnableDefault, &found);
  if (status != cudaSuccess || found != cudaDriverEntryPointSuccess)
    throw DeviceError("make_tensor_map: the driver has no cuTensorMapEncodeTiled", status);
  cuuint64_t outer_strides[3]{};
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  for (int axis = 1; axis < tile.rank; ++axis) outer_strides[axis - 1] = tile.stride[axis] * sizeof(T);
  TensorMap map;
  const CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(encode)(
      &map, std::is_same_v<T, float> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
      static_cast<cuuint32_t>(tile.rank), const_cast<T*>(base), tile.size, outer_strides, tile.box, steps,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw DeviceError("make_tensor_map: cuTensorMapEncodeTiled refused the tile", static_cast<int>(result));
  return map;
#endif
}

namespace arch {

// By one thread: copies the tile whose first element is at `first` (innermost axis first; may lie outside) to
// `to`, which is 1024-byte aligned. Row r of the tile fills bytes 128 r to 128 r + 127, with its 16-byte
// chunks permuted: chunk c is stored as chunk c ^ (r % 8). All bytes of the tile, zeros too, count on the
// barrier.
template <int Rank>
__device__ __forceinline__ void tma_load(void* to, const TensorMap& map, const int (&first)[Rank],
                                         std::uint64_t* barrier, CallSite at = CallSite::current()) {
  static_assert(Rank >= 2 && Rank <= 4);
#if defined(DDPM_SIMT_HOST)
  if (map.rank != Rank) simt::fail("tma_load: the tensor map has rank " + std::to_string(map.rank), at);
  host::tma_load(to, map, first, barrier, at);
#else
  const unsigned shared = shared_address_of(to), bar = shared_address_of(barrier);
  if constexpr (Rank == 2) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
        "%3}], [%4];" ::"r"(shared),
        "l"(&map), "r"(first[0]), "r"(first[1]), "r"(bar)
        : "memory");
  } else if constexpr (Rank == 3) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
        "%3, %4}], "
        "[%5];" ::"r"(shared),
        "l"(&map), "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(bar)
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
        "%3, %4, %5}], "
        "[%6];" ::"r"(shared),
        "l"(&map), "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(first[3]), "r"(bar)
        : "memory");
  }
#endif
}

}  // namespace arch
}  // namespace ddpm
