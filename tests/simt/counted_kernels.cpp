// SPDX-License-Identifier: MIT
#include "counted_kernels.hpp"

#include <ddpm/kernels/arch/mma_sm80.cuh>
#include <ddpm/kernels/launch.cuh>
#include <ddpm/kernels/pack.cuh>

#include "cuda_sim.hpp"

namespace ddpm::simt::kernels {

using ddpm::kernels::launch_kernel;
using ddpm::kernels::Pack;

namespace {

__global__ void scalar_load_kernel(const GlobalPattern p) {
  const int lane = static_cast<int>(threadIdx.x);
  p.out[lane] = p.in[p.stride * lane + p.offset];
}

__global__ void vector_load_kernel(const GlobalPattern p) {
  const int lane = static_cast<int>(threadIdx.x);
  Pack<float, 4>::load<CacheHint::stream>(p.in + 4 * p.stride * lane + p.offset).store(p.out + 4 * lane);
}

struct WordShared {
  float word[32 * 34];
};

__global__ void shared_word_kernel(const SharedPattern p) {
  auto& shared = shared_memory<WordShared>();
  const int lane = static_cast<int>(threadIdx.x), word = p.stride * lane;
  float& mine = shared.word[word + word / 32 * p.skew];
  mine = 1;
  __syncwarp();  // or the compiler takes the value from the store
  p.out[lane] = mine;
}

struct VectorShared {
  alignas(16) float vector[32 * 8][4];
};

__global__ void shared_vector_kernel(const SharedPattern p) {
  auto& shared = shared_memory<VectorShared>();
  const int lane = static_cast<int>(threadIdx.x);
  float* mine = shared.vector[p.stride * lane];
  const Pack<float, 4> pack{{1, 2, 3, 4}};
  pack.store(mine);
  p.out[lane] = Pack<float, 4>::load(mine)[3];
}

struct RowParams {
  int stride;
  float* out;
};

__global__ void ldmatrix_row_kernel(const RowParams p) {
  auto& shared = shared_memory<VectorShared>();
  const int lane = static_cast<int>(threadIdx.x);
  float* row = shared.vector[p.stride * lane];
  Pack<float, 4>{}.store(row);
  __syncwarp();
  std::uint32_t fragment[4];
  arch::ldmatrix(fragment, row);
  p.out[lane] = static_cast<float>(fragment[0]);
}

struct LoopParams {
  const float* in;
  float* out;
  int steps;
};

__global__ void uneven_loop_kernel(const LoopParams p) {
  const int lane = static_cast<int>(threadIdx.x), steps = lane < 16 ? p.steps : p.steps / 2;
  float sum = 0;
  for (int step = 0; step < steps; ++step) sum += p.in[step * 32 + lane];
  p.out[lane] = sum;
}

__global__ void synchronisation_kernel(float* out) {
  int value = static_cast<int>(threadIdx.x);
  for (int i = 0; i < 3; ++i) __syncthreads();
  for (int i = 0; i < 2; ++i) __syncwarp();
  for (int i = 0; i < 5; ++i) value += __shfl_xor_sync(full_warp, value, 1);
  value += static_cast<int>(__ballot_sync(full_warp, value > 0));
  for (int i = 0; i < 4; ++i) atomicAdd(out, 1.0f);
}

}  // namespace

void run_scalar_loads(const GlobalPattern& pattern) {
  launch_kernel(CudaSim{}, 1, 32, scalar_load_kernel, pattern);
}
void run_vector_loads(const GlobalPattern& pattern) {
  launch_kernel(CudaSim{}, 1, 32, vector_load_kernel, pattern);
}
void run_shared_words(const SharedPattern& pattern) {
  launch_kernel<WordShared>(CudaSim{}, 1, 32, shared_word_kernel, pattern);
}
void run_shared_vectors(const SharedPattern& pattern) {
  launch_kernel<VectorShared>(CudaSim{}, 1, 32, shared_vector_kernel, pattern);
}
void run_ldmatrix_rows(int stride, float* out) {
  launch_kernel<VectorShared>(CudaSim{}, 1, 32, ldmatrix_row_kernel, {stride, out});
}
void run_uneven_loop(const float* in, float* out, int steps) {
  launch_kernel(CudaSim{}, 1, 32, uneven_loop_kernel, {in, out, steps});
}
void run_synchronisation(float* out) { launch_kernel(CudaSim{}, 2, 64, synchronisation_kernel, out); }

}  // namespace ddpm::simt::kernels
