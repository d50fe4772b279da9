// SPDX-License-Identifier: MIT
#include "hopper_kernels.hpp"

#include <ddpm/kernels/arch/mbarrier_sm90.cuh>
#include <ddpm/kernels/arch/wgmma_sm90.cuh>
#include <ddpm/kernels/launch.cuh>

#include "cuda_sim.hpp"

namespace ddpm::simt::kernels {

using arch::Major;
using ddpm::kernels::launch_kernel;

namespace {

struct TileShared {
  alignas(1024) unsigned char tile[most_tile_rows][128];
  std::uint64_t filled;
};

template <int Rank>
__global__ void tile_load_kernel(const __grid_constant__ TileLoad p) {
  auto& shared = shared_memory<TileShared>();
  if (threadIdx.x == 0) arch::mbarrier_init(&shared.filled, 1);
  __syncthreads();
  if (threadIdx.x == 0) {
    int first[Rank];
    for (int axis = 0; axis < Rank; ++axis) first[axis] = p.first[axis];
    arch::mbarrier_arrive_expect_tx(&shared.filled, p.rows * 128);
    arch::tma_load(shared.tile, p.map, first, &shared.filled);
  }
  arch::mbarrier_wait_parity(&shared.filled, 0);
  for (unsigned i = threadIdx.x; i < p.rows * 128; i += blockDim.x) p.out[i] = shared.tile[i / 128][i % 128];
}

constexpr int depth = 64;

template <int N>
struct ProductShared {
  alignas(1024) unsigned char a[64 * depth * 2];
  alignas(1024) unsigned char b[N * depth * 2];
  std::uint64_t filled;
};

// The next 16 depths of a tile, and its strides, in bytes.
template <Major M>
struct TileLayout {
  static constexpr unsigned depth_step = M == Major::k ? 32 : 2048;
  static constexpr arch::TileStrides strides = {M == Major::k ? 0u : 8192u, 1024};
};

template <int N, Major MajorA, Major MajorB>
__global__ void warpgroup_product_kernel(const __grid_constant__ WarpgroupProduct p) {
  auto& shared = shared_memory<ProductShared<N>>();
  if (threadIdx.x == 0) arch::mbarrier_init(&shared.filled, 1);
  __syncthreads();
  if (threadIdx.x == 0) {
    arch::mbarrier_arrive_expect_tx(&shared.filled, sizeof shared.a + sizeof shared.b);
    arch::tma_load(shared.a, p.a, {0, 0}, &shared.filled);
    constexpr int tiles = MajorB == Major::k ? 1 : N / 64;
    for (int tile = 0; tile < tiles; ++tile)
      arch::tma_load(shared.b + tile * 8192, p.b, {tile * 64, 0}, &shared.filled);
  }
  arch::mbarrier_wait_parity(&shared.filled, 0);
  const int thread = static_cast<int>(threadIdx.x);
  const auto element = [&](int i) -> float& {
    const int row = thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8;
    return p.d[row * N + i / 4 * 8 + thread % 4 * 2 + i % 2];
  };
  float d[N / 2];
  for (int i = 0; i < N / 2; ++i) d[i] = p.adds ? element(i) : 0.0f;
  arch::wgmma_fence();
  for (unsigned step = 0; step < depth / 16; ++step) {
    const auto a =
        arch::wgmma_descriptor(shared.a + step * TileLayout<MajorA>::depth_step, TileLayout<MajorA>::strides);
    const auto b =
        arch::wgmma_descriptor(shared.b + step * TileLayout<MajorB>::depth_step, TileLayout<MajorB>::strides);
    const auto sum = p.adds || step > 0 ? arch::Sum::add : arch::Sum::replace;
    arch::wgmma_m64k16_bf16<N, MajorA, MajorB>(d, a, b, sum);
  }
  arch::wgmma_commit();
  arch::wgmma_wait<0>();
  for (int i = 0; i < N / 2; ++i) element(i) = d[i];
}

template <int N>
void launch_product(const ProductKind& kind, const WarpgroupProduct& params) {
  const bool a_k = kind.a == OperandOrder::depth_contiguous, b_k = kind.b == OperandOrder::depth_contiguous;
  const auto kernel = a_k ? (b_k ? warpgroup_product_kernel<N, Major::k, Major::k>
                                 : warpgroup_product_kernel<N, Major::k, Major::mn>)
                          : (b_k ? warpgroup_product_kernel<N, Major::mn, Major::k>
                                 : warpgroup_product_kernel<N, Major::mn, Major::mn>);
  launch_kernel<ProductShared<N>>(CudaSim{}, 1, 128, kernel, params);
}

struct RingShared {
  float value[2][32];
  std::uint64_t filled[2];
  std::uint64_t emptied[2];
};

__global__ void ring_kernel(const RingParams p) {
  auto& shared = shared_memory<RingShared>();
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  if (threadIdx.x == 0)
    for (int slot = 0; slot < 2; ++slot) {
      arch::mbarrier_init(&shared.filled[slot], warp_size);
      arch::mbarrier_init(&shared.emptied[slot], warp_size);
    }
  __syncthreads();
  float sum = 0;
  for (int step = 0; step < p.steps; ++step) {
    const int slot = step % 2;
    const unsigned turn = static_cast<unsigned>(step / 2 % 2);
    if (threadIdx.x < warp_size) {
      // The first turn finds both slots empty: the phase before the first counts as ended.
      arch::mbarrier_wait_parity(&shared.emptied[slot], turn ^ 1u);
      shared.value[slot][lane] = p.in[step * warp_size + lane];
      arch::mbarrier_arrive(&shared.filled[slot]);
    } else {
      arch::mbarrier_wait_parity(&shared.filled[slot], turn);
      sum += shared.value[slot][warp_size - 1 - lane];
      arch::mbarrier_arrive(&shared.emptied[slot]);
    }
  }
  if (threadIdx.x >= warp_size) p.out[warp_size - 1 - lane] = sum;
}

}  // namespace

void run_tile_load(int rank, const TileLoad& params) {
  const auto kernel = rank == 2 ? tile_load_kernel<2> : rank == 3 ? tile_load_kernel<3> : tile_load_kernel<4>;
  launch_kernel<TileShared>(CudaSim{}, 1, 64, kernel, params);
}

void run_warpgroup_product(const ProductKind& kind, const WarpgroupProduct& params) {
  if (kind.n == 64) launch_product<64>(kind, params);
  if (kind.n == 128) launch_product<128>(kind, params);
  if (kind.n == 192) launch_product<192>(kind, params);
  if (kind.n == 256) launch_product<256>(kind, params);
}

void run_ring(const RingParams& params) { launch_kernel<RingShared>(CudaSim{}, 1, 64, ring_kernel, params); }

}  // namespace ddpm::simt::kernels
