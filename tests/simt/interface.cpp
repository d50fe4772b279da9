// SPDX-License-Identifier: MIT
// Defines executor_interface.hpp: hands each request of the running thread to the part of its block that
// serves it.
#include <cstring>
#include <utility>
#include <vector>

#include <ddpm/kernels/arch/executor_interface.hpp>

#include "block.hpp"
#include "device_memory.hpp"
#include "executor.hpp"
#include "recording.hpp"

namespace ddpm::simt {

namespace {

void note_aligned(const Access& access, Site at) {
  if (reinterpret_cast<std::uintptr_t>(access.address) % access.bytes != 0)
    fail(access.text() + ": the address is not aligned to the size", at);
  Executor::instance().note_device_access(access, at);
}

template <class T>
T add_atomically(T* to, T value, Site at) {
  note_aligned({to, sizeof(T), AccessKind::atomic, "atomicAdd", CodeAddress(at)}, at);
  const T before = *to;
  *to = before + value;
  return before;
}

}  // namespace

void run_grid(const Launch& launch) {
  struct alignas(128) Line {
    std::byte bytes[128];
  };
  std::vector<Line> params((launch.params_bytes + sizeof(Line) - 1) / sizeof(Line));
  std::memcpy(params.data(), launch.params, launch.params_bytes);
  enqueue([own = launch, params = std::move(params)]() mutable {
    own.params = params.data();
    Executor::instance().run(own);
  });
}

std::string kernel_name(const void* kernel) { return function_name(kernel); }

void fail(const std::string& what, Site at) {
  if (const Block* block = Block::running())
    block->fail(what, CodeAddress(at.line() == 0 ? block->operation_at() : at));
  throw Failure(what + " [" + text(at) + "]");
}

int thread_in_block() { return Block::current({}).thread(); }

void block_barrier(Site at) { Block::current(at).barrier(at); }

void warp_rendezvous(unsigned mask, const Rendezvous& what, void* slot, Site at) {
  Block::current(at).warp_rendezvous(mask, what, slot, at);
}

void warpgroup_rendezvous(const Rendezvous& what, void* slot, Site at) {
  Block::current(at).warpgroup_rendezvous(what, slot, at);
}

void* shared_block(std::size_t bytes, std::size_t alignment, Site at) {
  const Block& block = Block::current(at);
  if (bytes != block.shared_bytes())
    fail("the kernel takes " + std::to_string(bytes) + " bytes of shared memory, the launch gave it " +
             std::to_string(block.shared_bytes()),
         at);
  if (alignment > shared_start) fail("shared memory is aligned to at most 1024 bytes", at);
  return block.shared();
}

std::uint32_t shared_offset(const void* address, std::size_t bytes, Site at) {
  const std::size_t offset = Block::current(at).shared_offset(address, bytes, "shared memory", at);
  return static_cast<std::uint32_t>(shared_start + offset);
}

void* shared_address(std::uint32_t offset, std::size_t bytes, Site at) {
  const Block& block = Block::current(at);
  void* address = block.shared() + offset - shared_start;
  block.shared_offset(address, bytes, "shared memory", at);
  return address;
}

void load(void* to, const void* from, std::size_t bytes, const char* what, Site at) {
  note_aligned({from, bytes, AccessKind::read, what, CodeAddress(at)}, at);
  std::memcpy(to, from, bytes);
}

void store(void* to, const void* from, std::size_t bytes, const char* what, Site at) {
  note_aligned({to, bytes, AccessKind::write, what, CodeAddress(at)}, at);
  std::memcpy(to, from, bytes);
}

float atomic_add(float* to, float value, Site at) { return add_atomically(to, value, at); }
double atomic_add(double* to, double value, Site at) { return add_atomically(to, value, at); }
int atomic_add(int* to, int value, Site at) { return add_atomically(to, value, at); }
unsigned atomic_add(unsigned* to, unsigned value, Site at) { return add_atomically(to, value, at); }
unsigned long long atomic_add(unsigned long long* to, unsigned long long value, Site at) {
  return add_atomically(to, value, at);
}

void copy_async(const CopyAsync& copy, Site at) { Block::current(at).async().copy(copy, at); }
void copy_async_commit() { Block::current({}).async().commit_copies(); }
void copy_async_wait(int groups_in_flight) { Block::current({}).async().wait_for_copies(groups_in_flight); }

void mbarrier_init(std::uint64_t* barrier, unsigned arrivals, Site at) {
  Block::current(at).async().init_barrier(barrier, arrivals, at);
}
void mbarrier_expect_bytes(std::uint64_t* barrier, unsigned bytes, Site at) {
  Block::current(at).async().expect_bytes(barrier, bytes, at);
}
void mbarrier_arrive(std::uint64_t* barrier, Site at) { Block::current(at).async().arrive(barrier, at); }
void mbarrier_wait(std::uint64_t* barrier, unsigned parity, Site at) {
  Block::current(at).async().wait_for_barrier(barrier, parity, at);
}

void bulk_copy(std::vector<BulkPiece> pieces, std::uint64_t* barrier, Site at) {
  Block::current(at).async().bulk_copy(std::move(pieces), barrier, at);
}

void matrix_async(MatrixProduct product, Site at) {
  Block::current(at).async().multiply(std::move(product), at);
}
void matrix_async_commit() { Block::current({}).async().commit_products(); }
void matrix_async_wait(int groups_in_flight) {
  Block::current({}).async().wait_for_products(groups_in_flight);
}

void shared_peek(void* to, std::uint32_t offset, std::size_t bytes, Site at) {
  std::memcpy(to, shared_address(offset, bytes, at), bytes);
}

void multiply(const HostProduct& p) {
  for (std::size_t row = 0; row < p.rows; ++row)
    for (std::size_t k = 0; k < p.depth; ++k)
      for (std::size_t column = 0; column < p.columns; ++column)
        p.to[row * p.columns + column] += p.a[row * p.depth + k] * p.b[k * p.columns + column];
}

}  // namespace ddpm::simt
