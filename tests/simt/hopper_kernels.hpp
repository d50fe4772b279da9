// SPDX-License-Identifier: MIT
// Kernels of mbarrier, TMA and wgmma. Pointers are to memory of CudaSim.
#pragma once

#include <ddpm/kernels/arch/tma_sm90.cuh>

namespace ddpm::simt::kernels {

// Loads one tile of `rows` rows of 128 bytes and copies shared memory as it lies to `out`.
struct TileLoad {
  TensorMap map;
  int first[4];
  unsigned rows;
  unsigned char* out;  // [rows][128]
};
inline constexpr unsigned most_tile_rows = 64;
void run_tile_load(int rank, const TileLoad& params);

// d [64][N] = a b (+ d if `adds`) with 64 bf16 of depth.
enum class OperandOrder { depth_contiguous, depth_strided };
struct WarpgroupProduct {
  TensorMap a;  // depth_contiguous: [64 m][64 k], tile {64, 64}; depth_strided: [64 k][64 m], tile {64, 64}
  TensorMap b;  // depth_contiguous: [N n][64 k], tile {64, N}; depth_strided: [64 k][N n], tiles {64, 64}
  float* d;
  int adds;
};
struct ProductKind {
  int n;  // 64, 128, 192, 256
  OperandOrder a;
  OperandOrder b;
};
void run_warpgroup_product(const ProductKind& kind, const WarpgroupProduct& params);

// One warp fills a ring of two buffers, another empties it; out = the sum of the `steps` values of in.
struct RingParams {
  const float* in;
  float* out;
  int steps;
};
void run_ring(const RingParams& params);

}  // namespace ddpm::simt::kernels
