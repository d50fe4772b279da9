// SPDX-License-Identifier: MIT
// What the host definitions of CUDA's built-ins and instructions ask of the executor that runs them. Declared
// here so that kernels include nothing of the tests; defined in tests/simt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <span>
#include <string>
#include <vector>

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr operator uint3() const { return {x, y, z}; }
};

// Of the thread that runs at this moment. One operating-system thread runs all of a grid.
extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;

namespace ddpm::simt {

using Site = std::source_location;

struct Launch {
  const void* kernel;
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes;
  const void* params;
  std::size_t params_bytes;
  void (*call)(const Launch&);  // calls the kernel with the parameters, on the stack of one thread
};

// Runs every thread of the grid to its end, or records that; throws simt::Failure, which is a ddpm::DeviceError.
void run_grid(const Launch& launch);

std::string kernel_name(const void* kernel);

// Ends the launch with this diagnosis.
[[noreturn]] void fail(const std::string& what, Site at);

int thread_in_block();

// Where the last lane to arrive combines what all lanes of the mask brought: slots[lane] is set for those.
using Combine = void (*)(void* const* slots, unsigned mask);

enum class WarpOperation { exchange, memory_barrier, matrix };

struct Rendezvous {
  const char* name;
  WarpOperation operation;
  Combine combine;
};

void block_barrier(Site at);
void warp_rendezvous(unsigned mask, const Rendezvous& what, void* slot, Site at);
void warpgroup_rendezvous(const Rendezvous& what, void* slot, Site at);  // all 128 threads

// The block's shared memory, whose size must be that of the launch.
void* shared_block(std::size_t bytes, std::size_t alignment, Site at);
// Distance from the start of shared memory as instructions see it; fails outside of the block's own bytes.
std::uint32_t shared_offset(const void* address, std::size_t bytes, Site at);
void* shared_address(std::uint32_t offset, std::size_t bytes, Site at);

// One access of one lane, as a whole: aligned to its size, within live memory.
void load(void* to, const void* from, std::size_t bytes, const char* what, Site at);
void store(void* to, const void* from, std::size_t bytes, const char* what, Site at);

float atomic_add(float* to, float value, Site at);
double atomic_add(double* to, double value, Site at);
int atomic_add(int* to, int value, Site at);
unsigned atomic_add(unsigned* to, unsigned value, Site at);
unsigned long long atomic_add(unsigned long long* to, unsigned long long value, Site at);

// cp.async: `bytes` of shared memory, the first `source_bytes` from `from`, the rest zero.
struct CopyAsync {
  void* to;
  const void* from;
  int bytes;
  int source_bytes;
};
void copy_async(const CopyAsync& copy, Site at);
void copy_async_commit();
void copy_async_wait(int groups_in_flight);

void mbarrier_init(std::uint64_t* barrier, unsigned arrivals, Site at);
void mbarrier_expect_bytes(std::uint64_t* barrier, unsigned bytes, Site at);
void mbarrier_arrive(std::uint64_t* barrier, Site at);
void mbarrier_wait(std::uint64_t* barrier, unsigned parity, Site at);

// A part of a bulk copy: `from` null means zeros.
struct BulkPiece {
  std::uint32_t to;
  const void* from;
  std::uint32_t bytes;
};
// Lands at any time after the call, then counts its bytes on the barrier.
void bulk_copy(std::vector<BulkPiece> pieces, std::uint64_t* barrier, Site at);

struct SharedRange {
  std::uint32_t offset;
  std::uint32_t bytes;
};
// wgmma, for one thread of a warpgroup. `registers` hold NaN until `finish` has run, which it does at the
// wait.
struct MatrixProduct {
  int thread;  // in the block
  std::span<float> registers;
  std::vector<SharedRange> reads;  // by the matrix unit until the wait; given for the first thread only
  std::function<void()> finish;
};
void matrix_async(MatrixProduct product, Site at);
void matrix_async_commit();
void matrix_async_wait(int groups_in_flight);
// For `finish`: the product has announced what it reads.
void shared_peek(void* to, std::uint32_t offset, std::size_t bytes, Site at);
// to [rows][columns] += a [rows][depth] b [depth][columns], depths in order; where nothing is instrumented.
struct HostProduct {
  const float *a, *b;
  float* to;
  std::size_t rows, columns, depth;
};
void multiply(const HostProduct& p);

}  // namespace ddpm::simt
