// SPDX-License-Identifier: MIT
#include "warp_kernels.hpp"

#include <ddpm/kernels/launch.cuh>

#include "cuda_sim.hpp"

namespace ddpm::simt::kernels {

using ddpm::kernels::launch_kernel;

namespace {

__global__ void shuffle_kernel(const ShuffleResults p) {
  const int lane = static_cast<int>(threadIdx.x), value = 100 + lane;
  p.indexed[lane] = __shfl_sync(full_warp, value, (3 * lane + 1) % 32);
  p.wrapped[lane] = __shfl_sync(full_warp, value, 11, 8);
  p.up[lane] = __shfl_up_sync(full_warp, value, 3, 16);
  p.down[lane] = __shfl_down_sync(full_warp, value, 5);
  p.exchanged[lane] = __shfl_xor_sync(full_warp, value, 7);
  p.wide[lane] = __shfl_xor_sync(full_warp, value + 0.5, 1);
}

__global__ void vote_kernel(const VoteResults p) {
  const int lane = static_cast<int>(threadIdx.x);
  p.ballot[lane] = __ballot_sync(full_warp, lane % 3 == 0);
  p.any[lane] = __any_sync(full_warp, lane == 31);
  p.all[lane] = __all_sync(full_warp, lane < 32);
  p.all[32 + lane] = __all_sync(full_warp, lane < 31);
}

__global__ void half_warp_sum_kernel(int* sums) {
  const int lane = static_cast<int>(threadIdx.x);
  int sum = lane;
  const auto add_neighbours = [&sum](unsigned mask) {
    for (int distance = 8; distance > 0; distance /= 2) sum += __shfl_xor_sync(mask, sum, distance);
  };
  if (lane < 16)
    add_neighbours(0x0000ffffu);
  else
    add_neighbours(0xffff0000u);
  sums[lane] = sum;
}

__global__ void index_kernel(const IndexResults p) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned at = block * blockDim.x * blockDim.y * blockDim.z + thread;
  p.block[at] = block;
  p.thread[at] = thread;
}

struct ReverseParams {
  const float* in;
  float* out;
};
struct ReverseShared {
  float value[64];
};

__global__ void reverse_kernel(const ReverseParams p) {
  auto& shared = shared_memory<ReverseShared>();
  const unsigned first = blockIdx.x * 64;
  shared.value[threadIdx.x] = p.in[first + threadIdx.x];
  __syncthreads();
  p.out[first + threadIdx.x] = shared.value[63 - threadIdx.x];
}

struct HistogramParams {
  const int* values;
  int count;
  int* bins;
};
struct HistogramShared {
  int bin[16];
};

__global__ void histogram_kernel(const HistogramParams p) {
  auto& shared = shared_memory<HistogramShared>();
  if (threadIdx.x < 16) shared.bin[threadIdx.x] = 0;
  __syncthreads();
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < static_cast<unsigned>(p.count);
       i += gridDim.x * blockDim.x)
    atomicAdd(&shared.bin[p.values[i]], 1);
  __syncthreads();
  if (threadIdx.x < 16) atomicAdd(&p.bins[threadIdx.x], shared.bin[threadIdx.x]);
}

struct AtomicParams {
  AtomicSums sums;
  int count;
};

__global__ void atomic_kernel(const AtomicParams p) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= p.count || i % 2 != 0) return;
  atomicAdd(p.sums.real, 0.5f);
  atomicAdd(p.sums.wide, 0.25);
  atomicAdd(p.sums.natural, 3u);
  atomicAdd(p.sums.large, 1ull << 33);
}

__global__ void fast_math_kernel(const FastMath p) {
  const unsigned i = threadIdx.x;
  const float x = __ldg(p.x + i);
  p.exp[i] = __expf(x);
  p.log[i] = __logf(x);
  p.sin[i] = __sinf(x);
  p.cos[i] = __cosf(x);
  p.rsqrt[i] = rsqrtf(x);
  p.quotient[i] = __fdividef(1.0f, x);
  p.fma[i] = __fmaf_rn(x, x, x);
}

__global__ void set_kernel(float* out) { *out = 1; }

}  // namespace

void run_shuffles(const ShuffleResults& results) { launch_kernel(CudaSim{}, 1, 32, shuffle_kernel, results); }
void run_votes(const VoteResults& results) { launch_kernel(CudaSim{}, 1, 32, vote_kernel, results); }
void run_half_warp_sums(int* sums) { launch_kernel(CudaSim{}, 1, 32, half_warp_sum_kernel, sums); }

void run_indices(const IndexResults& results) {
  launch_kernel(CudaSim{}, dim3(2, 3, 2), dim3(4, 2, 5), index_kernel, results);
}

void run_reverse(const float* in, float* out, int blocks) {
  launch_kernel<ReverseShared>(CudaSim{}, static_cast<unsigned>(blocks), 64, reverse_kernel, {in, out});
}

void run_histogram(const int* values, int count, int* bins) {
  launch_kernel<HistogramShared>(CudaSim{}, 3, 96, histogram_kernel, {values, count, bins});
}

void run_atomics(const AtomicSums& sums, int count) {
  launch_kernel(CudaSim{}, ddpm::kernels::blocks_for(count, 64), 64, atomic_kernel, {sums, count});
}

void run_fast_math(const FastMath& what, int count) {
  launch_kernel(CudaSim{}, 1, static_cast<unsigned>(count), fast_math_kernel, what);
}

void run_empty_grid(float* out) { launch_kernel(CudaSim{}, dim3(0, 4), 32, set_kernel, out); }

}  // namespace ddpm::simt::kernels
