// SPDX-License-Identifier: MIT
#include "matrix_kernels.hpp"

#include <ddpm/kernels/arch/cp_async_sm80.cuh>
#include <ddpm/kernels/arch/mma_sm80.cuh>
#include <ddpm/kernels/launch.cuh>

#include "cuda_sim.hpp"

namespace ddpm::simt::kernels {

using ddpm::kernels::launch_kernel;

namespace {

struct LdmatrixParams {
  const std::uint16_t* in;
  std::uint32_t* out;
};
struct LdmatrixShared {
  alignas(16) std::uint16_t row[32][8];
};

enum class Read { rows, columns };

template <int Matrices, Read Order>
__global__ void ldmatrix_kernel(const LdmatrixParams p) {
  auto& shared = shared_memory<LdmatrixShared>();
  const unsigned lane = threadIdx.x;
  for (int i = 0; i < 8; ++i) shared.row[lane][i] = p.in[lane * 8 + static_cast<unsigned>(i)];
  __syncwarp();
  std::uint32_t fragment[Matrices];
  const void* row = shared.row[lane % (8 * Matrices)];
  if constexpr (Order == Read::rows)
    arch::ldmatrix(fragment, row);
  else
    arch::ldmatrix_transposed(fragment, row);
  for (int i = 0; i < Matrices; ++i) p.out[lane * Matrices + static_cast<unsigned>(i)] = fragment[i];
}

template <Read Order>
void launch_ldmatrix(int matrices, const LdmatrixParams& params) {
  const auto kernel = matrices == 1   ? ldmatrix_kernel<1, Order>
                      : matrices == 2 ? ldmatrix_kernel<2, Order>
                                      : ldmatrix_kernel<4, Order>;
  launch_kernel<LdmatrixShared>(CudaSim{}, 1, 32, kernel, params);
}

using Multiply = void (*)(float (&)[4], const std::uint32_t (&)[4], const std::uint32_t (&)[2], CallSite);

template <Multiply Instruction>
__global__ void mma_kernel(const MmaParams p) {
  const unsigned lane = threadIdx.x;
  float d[4];
  std::uint32_t a[4], b[2];
  for (unsigned i = 0; i < 4; ++i) {
    d[i] = p.d[lane * 4 + i];
    a[i] = p.a[lane * 4 + i];
  }
  for (unsigned i = 0; i < 2; ++i) b[i] = p.b[lane * 2 + i];
  Instruction(d, a, b, CallSite::current());
  for (unsigned i = 0; i < 4; ++i) p.d[lane * 4 + i] = d[i];
}

struct RoundParams {
  const float* in;
  std::uint32_t* out;
};

__global__ void to_tf32_kernel(const RoundParams p) { p.out[threadIdx.x] = arch::to_tf32(p.in[threadIdx.x]); }

__global__ void to_bf16_pair_kernel(const RoundParams p) {
  const float value = p.in[threadIdx.x];
  p.out[threadIdx.x] = arch::to_bf16_pair(value, -2 * value);
}

struct TileShared {
  alignas(16) std::uint16_t a[16][16];
  alignas(16) std::uint16_t b[8][16];
};

__global__ void tile_product_kernel(const TileProduct p) {
  auto& shared = shared_memory<TileShared>();
  const int lane = static_cast<int>(threadIdx.x);
  arch::cp_async<16>(&shared.a[lane / 2][lane % 2 * 8], p.a + lane * 8);
  if (lane < 16) arch::cp_async<16>(&shared.b[lane / 2][lane % 2 * 8], p.b + lane * 8);
  arch::cp_async_commit();
  arch::cp_async_wait<0>();
  __syncthreads();
  std::uint32_t a[4], b[2];
  arch::ldmatrix(a, &shared.a[lane % 16][lane / 16 * 8]);
  arch::ldmatrix(b, &shared.b[lane % 8][lane / 8 % 2 * 8]);
  float d[4] = {};
  arch::mma_m16n8k16_bf16(d, a, b);
  for (int i = 0; i < 4; ++i) p.out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
}

template <int Width>
struct CopyShared {
  alignas(Width) unsigned char byte[32][Width];
};

template <int Width>
__global__ void copy_kernel(const CopyParams p) {
  auto& shared = shared_memory<CopyShared<Width>>();
  const unsigned lane = threadIdx.x;
  arch::cp_async<Width>(shared.byte[lane], p.in + lane * Width, p.source_bytes[lane]);
  arch::cp_async_commit();
  arch::cp_async_wait<0>();
  for (unsigned i = 0; i < Width; ++i) p.out[lane * Width + i] = shared.byte[lane][i];
}

struct StreamShared {
  float row[2][32];
};

__global__ void stream_kernel(const StreamParams p) {
  auto& shared = shared_memory<StreamShared>();
  const int lane = static_cast<int>(threadIdx.x);
  const auto fetch = [&](int step) {
    if (step < p.steps) arch::cp_async<4>(&shared.row[step % 2][lane], p.in + step * 32 + lane);
    arch::cp_async_commit();  // groups of no copies keep the count in step
  };
  fetch(0);
  float sum = 0;
  for (int step = 0; step < p.steps; ++step) {
    fetch(step + 1);
    arch::cp_async_wait<1>();
    __syncthreads();
    sum += shared.row[step % 2][31 - lane];
    __syncthreads();  // the next fetch overwrites this row
  }
  p.out[31 - lane] = sum;
}

}  // namespace

void run_ldmatrix(int matrices, const std::uint16_t* in, std::uint32_t* out) {
  launch_ldmatrix<Read::rows>(matrices, {in, out});
}
void run_ldmatrix_transposed(int matrices, const std::uint16_t* in, std::uint32_t* out) {
  launch_ldmatrix<Read::columns>(matrices, {in, out});
}

void run_mma_bf16(const MmaParams& params) {
  launch_kernel(CudaSim{}, 1, 32, mma_kernel<arch::mma_m16n8k16_bf16>, params);
}
void run_mma_tf32(const MmaParams& params) {
  launch_kernel(CudaSim{}, 1, 32, mma_kernel<arch::mma_m16n8k8_tf32>, params);
}

void run_to_tf32(const float* in, std::uint32_t* out, int count) {
  launch_kernel(CudaSim{}, 1, static_cast<unsigned>(count), to_tf32_kernel, {in, out});
}
void run_to_bf16_pair(const float* in, std::uint32_t* out, int count) {
  launch_kernel(CudaSim{}, 1, static_cast<unsigned>(count), to_bf16_pair_kernel, {in, out});
}

void run_tile_product(const TileProduct& params) {
  launch_kernel<TileShared>(CudaSim{}, 1, 32, tile_product_kernel, params);
}

void run_copy(int width, const CopyParams& params) {
  if (width == 4) launch_kernel<CopyShared<4>>(CudaSim{}, 1, 32, copy_kernel<4>, params);
  if (width == 8) launch_kernel<CopyShared<8>>(CudaSim{}, 1, 32, copy_kernel<8>, params);
  if (width == 16) launch_kernel<CopyShared<16>>(CudaSim{}, 1, 32, copy_kernel<16>, params);
}

void run_stream(const StreamParams& params) {
  launch_kernel<StreamShared>(CudaSim{}, 1, 32, stream_kernel, params);
}

}  // namespace ddpm::simt::kernels
