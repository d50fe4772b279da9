// SPDX-License-Identifier: MIT
// Compiles the wrappers of compute capability 9.0a natively; never run.
#include <ddpm/kernels/arch/mbarrier_sm90.cuh>
#include <ddpm/kernels/arch/tma_sm90.cuh>
#include <ddpm/kernels/arch/wgmma_sm90.cuh>
#include <ddpm/kernels/launch.cuh>

namespace ddpm::kernels {
namespace {

using arch::Major;

struct Shared {
  alignas(1024) unsigned char tile[64 * 1024];
  std::uint64_t filled;
};

struct Params {
  TensorMap matrix, volume, batch;
  float* out;
};

template <int N, Major MajorB>
__global__ void every_instruction_kernel(const __grid_constant__ Params p) {
  auto& shared = shared_memory<Shared>();
  if (threadIdx.x == 0) arch::mbarrier_init(&shared.filled, blockDim.x);
  __syncthreads();
  if (threadIdx.x == 0) {
    arch::mbarrier_arrive_expect_tx(&shared.filled, 3 * 8192);
    arch::tma_load(shared.tile, p.matrix, {0, 0}, &shared.filled);
    arch::tma_load(shared.tile + 8192, p.volume, {0, 0, 0}, &shared.filled);
    arch::tma_load(shared.tile + 16384, p.batch, {0, 0, 0, 0}, &shared.filled);
  } else {
    arch::mbarrier_arrive(&shared.filled);
  }
  arch::mbarrier_wait_parity(&shared.filled, 0);
  float d[N / 2] = {};
  arch::fence_proxy_async();
  arch::wgmma_fence();
  const std::uint64_t a = arch::wgmma_descriptor(shared.tile, {0, 1024});
  arch::wgmma_m64k16_bf16<N, Major::k, MajorB>(d, a, a, arch::Sum::replace);
  arch::wgmma_m64k16_bf16<N, Major::mn, MajorB>(d, a, a, arch::Sum::add);
  arch::wgmma_commit();
  arch::wgmma_wait<0>();
  arch::wgmma_finish(d);
  for (int i = 0; i < N / 2; ++i) p.out[threadIdx.x * (N / 2) + i] = d[i];
}

}  // namespace

void launch_every_instruction(const Cuda& device, const bf16* in, float* out) {
  const Params params{make_tensor_map(in, {2, {64, 64}, {1, 64}, {64, 64}}),
                      make_tensor_map(in, {3, {64, 8, 8}, {1, 64, 512}, {64, 8, 8}}),
                      make_tensor_map(in, {4, {64, 4, 4, 4}, {1, 64, 256, 1024}, {64, 4, 4, 4}}), out};
  launch_kernel<Shared>(device, 1, 128, every_instruction_kernel<64, Major::k>, params);
  launch_kernel<Shared>(device, 1, 128, every_instruction_kernel<128, Major::mn>, params);
  launch_kernel<Shared>(device, 1, 128, every_instruction_kernel<192, Major::mn>, params);
  launch_kernel<Shared>(device, 1, 128, every_instruction_kernel<256, Major::k>, params);
}

}  // namespace ddpm::kernels
