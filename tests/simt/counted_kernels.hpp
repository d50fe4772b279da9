// SPDX-License-Identifier: MIT
// Kernels of one warp with known patterns of access, for the counters.
#pragma once

namespace ddpm::simt::kernels {

// Lane l loads float stride * l + offset of `in` and stores it as float l of `out`.
struct GlobalPattern {
  const float* in;
  float* out;
  int stride;
  int offset;
};
void run_scalar_loads(const GlobalPattern& pattern);
// Lane l loads 16 bytes from float 4 stride l + offset, and stores them as floats 4 l to 4 l + 3.
void run_vector_loads(const GlobalPattern& pattern);

// Lane l stores and loads word stride * l of shared memory.
struct SharedPattern {
  int stride;
  int skew;  // added once every 32 words
  float* out;
};
void run_shared_words(const SharedPattern& pattern);
// The same with 16 bytes: vector stride * l.
void run_shared_vectors(const SharedPattern& pattern);

// ldmatrix.x4 of rows that are `stride` 16-byte chunks apart.
void run_ldmatrix_rows(int stride, float* out);

// A loop in which lanes 0 to 15 take `steps` turns and the others half as many, each a load of one float.
void run_uneven_loop(const float* in, float* out, int steps);

// Two blocks of two warps: 3 __syncthreads, 2 __syncwarp, 5 shuffles, 1 ballot, 4 atomicAdd per thread.
void run_synchronisation(float* out);

}  // namespace ddpm::simt::kernels
