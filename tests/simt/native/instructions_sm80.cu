// SPDX-License-Identifier: MIT
// Compiles launch.cuh, pack.cuh and every wrapper that compute capability 8.0 has, natively; never run.
#include <ddpm/core/dtype.hpp>
#include <ddpm/kernels/arch/cp_async_sm80.cuh>
#include <ddpm/kernels/arch/mma_sm80.cuh>
#include <ddpm/kernels/launch.cuh>
#include <ddpm/kernels/pack.cuh>

namespace ddpm::kernels {
namespace {

struct Shared {
  alignas(16) std::uint16_t a[16][32];
  alignas(16) float big[16384];  // more than a launch gets without asking
};

struct Params {
  const float* in;
  float* out;
};

__global__ void every_instruction_kernel(const __grid_constant__ Params p) {
  auto& shared = shared_memory<Shared>();
  const int lane = static_cast<int>(threadIdx.x);
  arch::cp_async<4>(&shared.big[lane], p.in + lane);
  arch::cp_async<8>(&shared.big[2 * lane], p.in + 2 * lane, 4);
  arch::cp_async<16>(&shared.a[lane % 16][0], p.in + 4 * lane, lane);
  arch::cp_async_commit();
  arch::cp_async_wait<1>();
  __syncthreads();
  std::uint32_t x1[1], x2[2], x4[4];
  arch::ldmatrix(x1, shared.a[lane % 16]);
  arch::ldmatrix(x2, shared.a[lane % 16]);
  arch::ldmatrix(x4, shared.a[lane % 16]);
  arch::ldmatrix_transposed(x1, shared.a[lane % 16]);
  arch::ldmatrix_transposed(x2, shared.a[lane % 16]);
  arch::ldmatrix_transposed(x4, shared.a[lane % 16]);
  x2[0] ^= x1[0] ^ arch::to_tf32(shared.big[lane]) ^ arch::to_bf16_pair(shared.big[lane], 1);
  float d[4] = {};
  arch::mma_m16n8k16_bf16(d, x4, x2);
  arch::mma_m16n8k8_tf32(d, x4, x2);
  const auto kept = Pack<float, 4>::load(p.in + 4 * lane);
  const auto constant =
      Pack<bf16, 4>::load<CacheHint::read_only>(reinterpret_cast<const bf16*>(p.in) + 4 * lane);
  auto streamed = Pack<float, 1>::load<CacheHint::stream>(p.in + lane);
  streamed[0] += d[0] + kept[1] + static_cast<float>(constant[2]);
  streamed.store(p.out + lane);
  kept.store<CacheHint::stream>(p.out + 32 + 4 * lane);
}

}  // namespace

void launch_every_instruction(const Cuda& device, const float* in, float* out) {
  launch_kernel<Shared>(device, 1, 32, every_instruction_kernel, {in, out});
}

}  // namespace ddpm::kernels
