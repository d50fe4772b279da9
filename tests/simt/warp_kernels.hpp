// SPDX-License-Identifier: MIT
// Kernels that show what the built-ins of CUDA do. Pointers are to memory of CudaSim.
#pragma once

#include <cstdint>

namespace ddpm::simt::kernels {

struct ShuffleResults {
  int* indexed;    // from lane (3 lane + 1) % 32
  int* wrapped;    // width 8, source lane 11: lane 3 of the own segment
  int* up;         // distance 3, width 16
  int* down;       // distance 5
  int* exchanged;  // lanes xor 7
  double* wide;    // 8 bytes, lanes xor 1
};
void run_shuffles(const ShuffleResults& results);  // [32] each

struct VoteResults {
  unsigned* ballot;  // of lanes that 3 divides
  int* any;          // of lane 31
  int* all;          // of lanes below 32, then below 31
};
void run_votes(const VoteResults& results);  // [32], [32], [64]

// Each half of the warp sums its own lanes with its own mask.
void run_half_warp_sums(int* sums);  // [32]

struct IndexResults {
  unsigned* block;   // [blocks][threads]: linear index of the block, from blockIdx and gridDim
  unsigned* thread;  // the same of the thread
};
void run_indices(const IndexResults& results);  // grid (2, 3, 2), block (4, 2, 5)

// out[i] = in[block's end - 1 - i] through shared memory, for blocks of 64 threads.
void run_reverse(const float* in, float* out, int blocks);

// Adds each block's histogram, made in shared memory, to `bins`.
void run_histogram(const int* values, int count, int* bins);  // [16]

// Adds each of `count` values to its kind of sum; every other lane only.
struct AtomicSums {
  float* real;
  double* wide;
  unsigned* natural;
  unsigned long long* large;
};
void run_atomics(const AtomicSums& sums, int count);

struct FastMath {
  const float* x;
  float* exp;
  float* log;
  float* sin;
  float* cos;
  float* rsqrt;
  float* quotient;  // 1 / x
  float* fma;       // x * x + x
};
void run_fast_math(const FastMath& what, int count);  // at most 128

void run_empty_grid(float* out);

}  // namespace ddpm::simt::kernels
