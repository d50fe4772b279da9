// SPDX-License-Identifier: MIT
// Kernels of one instruction each: ldmatrix, mma.sync, cp.async. Pointers are to memory of CudaSim.
#pragma once

#include <cstdint>

namespace ddpm::simt::kernels {

// Loads `matrices` (1, 2 or 4) 8x8 matrices from the first rows of in [32][8]; out is [32 lanes][matrices].
void run_ldmatrix(int matrices, const std::uint16_t* in, std::uint32_t* out);
void run_ldmatrix_transposed(int matrices, const std::uint16_t* in, std::uint32_t* out);

struct MmaParams {
  const std::uint32_t* a;  // [32][4]
  const std::uint32_t* b;  // [32][2]
  float* d;                // [32][4], read and written
};
void run_mma_bf16(const MmaParams& params);
void run_mma_tf32(const MmaParams& params);

void run_to_tf32(const float* in, std::uint32_t* out, int count);
// Of each number and -2 times it.
void run_to_bf16_pair(const float* in, std::uint32_t* out, int count);

// out = the 16x8 product of a [16][16] and b [8][16] (row n holds the depths of column n), both loaded by
// ldmatrix.
struct TileProduct {
  const std::uint16_t* a;
  const std::uint16_t* b;
  float* out;  // [16][8]
};
void run_tile_product(const TileProduct& params);

// Copies `in` by cp.async of 4, 8 and 16 bytes per thread; thread i takes source_bytes[i] of them.
struct CopyParams {
  const unsigned char* in;
  const int* source_bytes;  // [32]
  unsigned char* out;       // [32][width]
};
void run_copy(int width, const CopyParams& params);

// out[i] = sum of in[k][i] over `steps` rows of 32 floats, which two buffers in shared memory stream.
struct StreamParams {
  const float* in;
  float* out;  // [32]
  int steps;
};
void run_stream(const StreamParams& params);

}  // namespace ddpm::simt::kernels
