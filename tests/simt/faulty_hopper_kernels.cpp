// SPDX-License-Identifier: MIT
#include "faulty_hopper_kernels.hpp"

#include <ddpm/kernels/arch/mbarrier_sm90.cuh>
#include <ddpm/kernels/arch/tma_sm90.cuh>
#include <ddpm/kernels/arch/wgmma_sm90.cuh>
#include <ddpm/kernels/launch.cuh>

#include "cuda_sim.hpp"

namespace ddpm::simt::kernels {

namespace {

using Fault = HopperFault;

constexpr unsigned tile_bytes = 64 * 128;

struct ProductParams {
  TensorMap tile;
  float* out;
};

struct ProductShared {
  alignas(1024) unsigned char tile[tile_bytes + 1024];
  std::uint64_t filled;
};

// The product of the tile with its own transpose, by one warpgroup.
template <Fault F>
__global__ void product_kernel(const __grid_constant__ ProductParams p) {
  auto& shared = shared_memory<ProductShared>();
  const unsigned thread = threadIdx.x;
  unsigned char* const tile = shared.tile + (F == Fault::tile_misaligned ? 128 : 0);
  if (F != Fault::not_initialised && thread == 0)
    arch::mbarrier_init(&shared.filled, F == Fault::too_few_arrivals ? 2 : 1);
  if (F != Fault::no_barrier_after_init) __syncthreads();
  if (thread == 0) {
    arch::mbarrier_arrive_expect_tx(&shared.filled,
                                    tile_bytes + (F == Fault::too_many_bytes_expected ? 16 : 0));
    if (F == Fault::too_many_arrivals) arch::mbarrier_arrive(&shared.filled);
    arch::tma_load(tile, p.tile, {0, 0}, &shared.filled);
  }
  if (F != Fault::no_wait_for_tile) arch::mbarrier_wait_parity(&shared.filled, 0);
  float d[32] = {};
  const arch::TileStrides strides{0, F == Fault::operands_differ && thread == 7 ? 512u : 1024u};
  const std::uint64_t operand = arch::wgmma_descriptor(tile, strides);
  arch::wgmma_fence();
  arch::wgmma_m64k16_bf16<64, arch::Major::k, arch::Major::k>(d, operand, operand, arch::Sum::replace);
  if (F != Fault::no_commit) arch::wgmma_commit();
  if (F == Fault::overwritten_before_wait && thread == 9) tile[0] = 0;
  if (F != Fault::no_wait_for_product) arch::wgmma_wait<0>();
  for (unsigned i = 0; i < 32; ++i) p.out[thread * 32 + i] = d[i];
}

template <Fault F>
void launch(const HopperFaultParams& params) {
  const TensorMap map = make_tensor_map(params.tile, {2, {64, 64}, {1, 64}, {64, 64}});
  ddpm::kernels::launch_kernel<ProductShared>(CudaSim{}, 1, 128, product_kernel<F>, {map, params.out});
}

}  // namespace

void run_hopper_fault(HopperFault fault, const HopperFaultParams& params) {
  constexpr void (*runs[])(const HopperFaultParams&) = {
      launch<Fault::none>,
      launch<Fault::too_many_bytes_expected>,
      launch<Fault::too_few_arrivals>,
      launch<Fault::too_many_arrivals>,
      launch<Fault::not_initialised>,
      launch<Fault::no_barrier_after_init>,
      launch<Fault::no_wait_for_tile>,
      launch<Fault::tile_misaligned>,
      launch<Fault::operands_differ>,
      launch<Fault::overwritten_before_wait>,
      launch<Fault::no_commit>,
      launch<Fault::no_wait_for_product>,
  };
  runs[static_cast<int>(fault)](params);
}

}  // namespace ddpm::simt::kernels
