// SPDX-License-Identifier: MIT
#include "faulty_kernels.hpp"

#include <ddpm/kernels/arch/cp_async_sm80.cuh>
#include <ddpm/kernels/arch/mma_sm80.cuh>
#include <ddpm/kernels/launch.cuh>
#include <ddpm/kernels/pack.cuh>

#include "cuda_sim.hpp"

namespace ddpm::simt::kernels {

using ddpm::kernels::launch_kernel;
using ddpm::kernels::NoShared;
using ddpm::kernels::Pack;

namespace {

constexpr unsigned threads = 64;

struct Shared {
  alignas(16) float value[threads];
};

// Reverses three tiles, one after another, through one buffer.
template <Fault F>
__global__ void reverse_kernel(const FaultParams p) {
  auto& shared = shared_memory<Shared>();
  const unsigned thread = threadIdx.x;
  for (unsigned tile = 0; tile < 3; ++tile) {
    if (F != Fault::no_write || thread != 5) shared.value[thread] = p.in[tile * threads + thread];
    if (F != Fault::no_barrier_before_read) __syncthreads();
    p.out[tile * threads + thread] = shared.value[threads - 1 - thread];
    if (F != Fault::no_barrier_before_overwrite) __syncthreads();
  }
}

// Lanes exchange values with their neighbours through shared memory.
template <Fault F>
__global__ void neighbour_kernel(const FaultParams p) {
  auto& shared = shared_memory<Shared>();
  shared.value[threadIdx.x] = p.in[threadIdx.x];
  if (F != Fault::no_warp_barrier) __syncwarp();
  p.out[threadIdx.x] = shared.value[threadIdx.x ^ 1u];
}

struct CountShared {
  int count[2];
};

template <Fault F>
__global__ void count_kernel(const FaultParams p) {
  auto& shared = shared_memory<CountShared>();
  if (threadIdx.x < 2) shared.count[threadIdx.x] = 0;
  __syncthreads();
  if (F == Fault::count_without_atomic)
    ++shared.count[threadIdx.x % 2];
  else
    atomicAdd(&shared.count[threadIdx.x % 2], 1);
  __syncthreads();
  if (threadIdx.x < 2) p.out[threadIdx.x] = static_cast<float>(shared.count[threadIdx.x]);
}

__global__ void shared_index_kernel(const FaultParams p) {
  auto& shared = shared_memory<Shared>();
  float* const value = shared.value;  // an index into the array itself is for UBSan
  value[threadIdx.x + 1] = p.in[threadIdx.x];
}

// Barriers and warp operations.
template <Fault F>
__global__ void cooperation_kernel(const FaultParams p) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % warp_size;
  int value = thread;
  if constexpr (F == Fault::divergent_barrier) {
    if (thread < 32)
      __syncthreads();
    else
      __syncthreads();
  } else if constexpr (F == Fault::barrier_after_return) {
    if (thread < 32) return;
    __syncthreads();
  } else if constexpr (F == Fault::return_beside_barrier) {
    if (thread >= 32) return;
    __syncthreads();
  } else if constexpr (F == Fault::half_warp_at_shuffle) {
    if (lane < 16) value = __shfl_xor_sync(full_warp, value, 1);
    value = __shfl_xor_sync(full_warp, value, 2);
  } else if constexpr (F == Fault::lane_not_in_mask) {
    value = __shfl_xor_sync(0x0000ffffu, value, 1);
  } else if constexpr (F == Fault::masks_differ) {
    value = __shfl_xor_sync(lane < 16 ? full_warp : 0xffff0000u, value, 1);
  } else if constexpr (F == Fault::returned_lane_in_mask) {
    if (lane == 3) return;
    value = __shfl_xor_sync(full_warp, value, 1);
  } else if constexpr (F == Fault::lane_that_does_not_exist) {
    value = __shfl_xor_sync(full_warp, value, 1);  // in a block of 40 threads
  } else if constexpr (F == Fault::shuffle_from_outside_mask) {
    if (lane < 16) value = __shfl_sync(0x0000ffffu, value, 20);
  }
  p.out[thread] = static_cast<float>(value);
}

// Two copies per thread, each thread reads those of another.
struct CopyShared {
  alignas(16) float value[2][threads];
};

template <Fault F>
__global__ void copy_kernel(const FaultParams p) {
  auto& shared = shared_memory<CopyShared>();
  const unsigned thread = threadIdx.x;
  arch::cp_async<4>(&shared.value[0][thread], p.in + thread);
  arch::cp_async_commit();
  arch::cp_async<4>(&shared.value[1][thread], p.in + threads + thread);
  if (F != Fault::copy_without_commit) arch::cp_async_commit();
  if (F == Fault::copy_overwritten_in_flight) shared.value[1][thread] = 0;
  if (F == Fault::copy_waited_too_weakly)
    arch::cp_async_wait<1>();
  else if (F != Fault::copy_without_wait)
    arch::cp_async_wait<0>();
  if (F != Fault::copy_without_barrier) __syncthreads();
  p.out[thread] = shared.value[0][threads - 1 - thread] + shared.value[1][threads - 1 - thread];
}

template <Fault F>
__global__ void bad_copy_kernel(const FaultParams p) {
  auto& shared = shared_memory<CopyShared>();
  if constexpr (F == Fault::copy_misaligned) arch::cp_async<16>(&shared.value[0][0], p.in + 1);
  if constexpr (F == Fault::copy_source_too_large) arch::cp_async<16>(&shared.value[0][0], p.in, 20);
}

// Global memory, in a grid of two blocks.
template <Fault F>
__global__ void global_kernel(const FaultParams p) {
  const unsigned block = blockIdx.x, at = block * threads + threadIdx.x;
  if constexpr (F == Fault::blocks_write_same) {
    p.out[threadIdx.x + block] = 1;
  } else if constexpr (F == Fault::block_reads_what_other_writes) {
    p.out[at] = 1;
    p.out[128 + at] = p.out[(1 - block) * threads + threadIdx.x];
  } else if constexpr (F == Fault::atomic_beside_plain) {
    if (block == 0)
      atomicAdd(p.out, 1.0f);
    else if (threadIdx.x == 0)
      p.out[0] = 2;
  } else if constexpr (F == Fault::vector_misaligned) {
    Pack<float, 4>::load(p.in + 2).store(p.out + 4 * at % 256);
  } else if constexpr (F == Fault::vector_beyond_end) {
    if (at == 0) Pack<float, 4>::load(p.in + 256).store(p.out);
  } else if constexpr (F == Fault::scalar_beyond_end) {
    if (at == 0) p.out[0] = p.in[257];
  } else if constexpr (F == Fault::scalar_misaligned) {
    if (at == 0) *reinterpret_cast<float*>(reinterpret_cast<char*>(p.out) + 2) = 1;
  } else if constexpr (F == Fault::host_pointer) {
    if (at == 0) Pack<float, 1>::load(p.host).store(p.out);
  }
}

template <Fault F>
__global__ void ldmatrix_kernel(const FaultParams p) {
  auto& shared = shared_memory<Shared>();
  shared.value[threadIdx.x] = 0;
  __syncwarp();
  std::uint32_t fragment[1];
  const float* row = F == Fault::ldmatrix_of_global ? p.in : shared.value + 2;
  arch::ldmatrix(fragment, row);
  p.out[threadIdx.x] = static_cast<float>(fragment[0]);
}

__global__ void touch_kernel(const FaultParams p) {
  if (threadIdx.x == 0) *p.out = shared_memory<Shared>().value[0];
}

struct TooMuch {
  float value[60000];
};

template <auto Kernel, class Shared, unsigned Blocks, unsigned Threads>
void run(const FaultParams& params) {
  launch_kernel<Shared>(CudaSim{}, Blocks, Threads, Kernel, params);
}

struct Entry {
  Fault fault;
  void (*run)(const FaultParams&);
};

constexpr Entry entries[] = {
    {Fault::none, run<reverse_kernel<Fault::none>, Shared, 1, threads>},
    {Fault::no_barrier_before_read, run<reverse_kernel<Fault::no_barrier_before_read>, Shared, 1, threads>},
    {Fault::no_barrier_before_overwrite,
     run<reverse_kernel<Fault::no_barrier_before_overwrite>, Shared, 1, threads>},
    {Fault::no_write, run<reverse_kernel<Fault::no_write>, Shared, 1, threads>},
    {Fault::no_warp_barrier, run<neighbour_kernel<Fault::no_warp_barrier>, Shared, 1, threads>},
    {Fault::count_without_atomic, run<count_kernel<Fault::count_without_atomic>, CountShared, 1, threads>},
    {Fault::divergent_barrier, run<cooperation_kernel<Fault::divergent_barrier>, NoShared, 1, threads>},
    {Fault::barrier_after_return, run<cooperation_kernel<Fault::barrier_after_return>, NoShared, 1, threads>},
    {Fault::return_beside_barrier,
     run<cooperation_kernel<Fault::return_beside_barrier>, NoShared, 1, threads>},
    {Fault::half_warp_at_shuffle, run<cooperation_kernel<Fault::half_warp_at_shuffle>, NoShared, 1, threads>},
    {Fault::lane_not_in_mask, run<cooperation_kernel<Fault::lane_not_in_mask>, NoShared, 1, threads>},
    {Fault::masks_differ, run<cooperation_kernel<Fault::masks_differ>, NoShared, 1, threads>},
    {Fault::returned_lane_in_mask,
     run<cooperation_kernel<Fault::returned_lane_in_mask>, NoShared, 1, threads>},
    {Fault::lane_that_does_not_exist,
     run<cooperation_kernel<Fault::lane_that_does_not_exist>, NoShared, 1, 40>},
    {Fault::shuffle_from_outside_mask,
     run<cooperation_kernel<Fault::shuffle_from_outside_mask>, NoShared, 1, threads>},
    {Fault::copy_without_wait, run<copy_kernel<Fault::copy_without_wait>, CopyShared, 1, threads>},
    {Fault::copy_waited_too_weakly, run<copy_kernel<Fault::copy_waited_too_weakly>, CopyShared, 1, threads>},
    {Fault::copy_without_commit, run<copy_kernel<Fault::copy_without_commit>, CopyShared, 1, threads>},
    {Fault::copy_without_barrier, run<copy_kernel<Fault::copy_without_barrier>, CopyShared, 1, threads>},
    {Fault::copy_overwritten_in_flight,
     run<copy_kernel<Fault::copy_overwritten_in_flight>, CopyShared, 1, threads>},
    {Fault::copy_misaligned, run<bad_copy_kernel<Fault::copy_misaligned>, CopyShared, 1, 1>},
    {Fault::copy_source_too_large, run<bad_copy_kernel<Fault::copy_source_too_large>, CopyShared, 1, 1>},
    {Fault::blocks_write_same, run<global_kernel<Fault::blocks_write_same>, NoShared, 2, threads>},
    {Fault::block_reads_what_other_writes,
     run<global_kernel<Fault::block_reads_what_other_writes>, NoShared, 2, threads>},
    {Fault::atomic_beside_plain, run<global_kernel<Fault::atomic_beside_plain>, NoShared, 2, threads>},
    {Fault::vector_misaligned, run<global_kernel<Fault::vector_misaligned>, NoShared, 2, threads>},
    {Fault::vector_beyond_end, run<global_kernel<Fault::vector_beyond_end>, NoShared, 2, threads>},
    {Fault::scalar_beyond_end, run<global_kernel<Fault::scalar_beyond_end>, NoShared, 2, threads>},
    {Fault::scalar_misaligned, run<global_kernel<Fault::scalar_misaligned>, NoShared, 2, threads>},
    {Fault::host_pointer, run<global_kernel<Fault::host_pointer>, NoShared, 2, threads>},
    {Fault::ldmatrix_misaligned, run<ldmatrix_kernel<Fault::ldmatrix_misaligned>, Shared, 1, 32>},
    {Fault::ldmatrix_of_global, run<ldmatrix_kernel<Fault::ldmatrix_of_global>, Shared, 1, 32>},
    {Fault::shared_index_beyond_end, run<shared_index_kernel, Shared, 1, threads>},
    {Fault::too_many_threads, run<touch_kernel, Shared, 1, 1025>},
    {Fault::too_much_shared, run<touch_kernel, TooMuch, 1, threads>},
    {Fault::other_shared_size, run<touch_kernel, CopyShared, 1, threads>},
};

}  // namespace

void run_fault(Fault fault, const FaultParams& params) {
  for (const Entry& entry : entries)
    if (entry.fault == fault) entry.run(params);
}

}  // namespace ddpm::simt::kernels
