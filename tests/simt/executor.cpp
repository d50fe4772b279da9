// SPDX-License-Identifier: MIT
#include "executor.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <numeric>
#include <vector>

#include "asan.hpp"
#include "block.hpp"
#include "device_memory.hpp"

namespace ddpm::simt {

Executor& Executor::instance() {
  static Executor executor;
  return executor;
}

Executor::Executor() {
  void* arena = mmap(nullptr, arena_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (arena == MAP_FAILED) throw std::bad_alloc();
  arena_ = static_cast<std::byte*>(arena);
  poison(arena_, arena_bytes_);
}

void Executor::check_launch(const Launch& launch) const {
  constexpr unsigned most_y_and_z = 65535, most_block_z = 64;
  const auto [x, y, z] = launch.block;
  const std::uint64_t threads = std::uint64_t{x} * y * z;
  const auto refuse = [&](const std::string& what) {
    throw Failure("the launch of " + kernel_name(launch.kernel) + " is refused: " + what);
  };
  if (threads == 0) refuse("the block has no threads");
  if (threads > limits.threads_per_block || z > most_block_z)
    refuse("a block of (" + std::to_string(x) + "," + std::to_string(y) + "," + std::to_string(z) +
           ") threads, at most " + std::to_string(limits.threads_per_block) + " are possible");
  if (launch.grid.y > most_y_and_z || launch.grid.z > most_y_and_z)
    refuse("the grid has more than " + std::to_string(most_y_and_z) + " blocks along y or z");
  if (launch.shared_bytes > limits.shared_bytes)
    refuse(std::to_string(launch.shared_bytes) + " bytes of shared memory, at most " +
           std::to_string(limits.shared_bytes) + " are possible");
}

void Executor::run(const Launch& launch) {
  const std::lock_guard lock(mutex_);
  check_launch(launch);
  if (plan) {
    plan->push_back(launch);
    plan->back().params = nullptr;
    return;
  }
  ++launches_;
  counters_.totals = {};
  counters_.totals.has_scalar_accesses = has_hooks_;
  global_races_.begin_launch();
  random_ = Random(schedule.seed);
  blockDim = launch.block;
  gridDim = launch.grid;
  std::vector<std::uint32_t> order(std::size_t{launch.grid.x} * launch.grid.y * launch.grid.z);
  std::iota(order.begin(), order.end(), 0u);
  if (schedule.order == Order::reverse) std::reverse(order.begin(), order.end());
  if (schedule.order == Order::random_warps || schedule.order == Order::random_threads)
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_.below(i)]);
  for (const std::uint32_t index : order) {
    counters_.begin_block(static_cast<int>(launch.block.x * launch.block.y * launch.block.z));
    Block(*this, launch, index).run();
  }
  sum += counters_.totals;
}

bool Executor::note(const Access& access) {
  Block* block = Block::running();
  if (block && block->is_near_shared(access.address)) {
    note_shared(*block, access);
    return true;
  }
  if (block && DeviceMemory::instance().contains(access.address)) {
    note_global(*block, access);
    return true;
  }
  return false;
}

void Executor::note_device_access(const Access& access, Site at) {
  if (!note(access)) fail(access.text() + ": the address is neither in shared nor in global memory", at);
}

void Executor::note_shared(Block& block, const Access& access) {
  const std::ptrdiff_t offset = static_cast<const std::byte*>(access.address) - block.shared();
  if (offset < 0 || static_cast<std::size_t>(offset) + access.bytes > block.shared_bytes())
    block.fail("shared " + access.text() + " at offset " + std::to_string(offset) +
                   ", outside of the block's " + std::to_string(block.shared_bytes()) +
                   " bytes of shared memory",
               access.from);
  counters_.record(block.thread(), Space::shared, access);
  if (!block.races()) return;
  if (const auto diagnosis = block.races()->access(block.thread(), static_cast<std::size_t>(offset), access);
      !diagnosis.empty())
    block.fail(diagnosis, access.from);
}

void Executor::note_global(Block& block, const Access& access) {
  if (const auto fault = DeviceMemory::instance().find_fault(access); !fault.empty())
    block.fail(fault, access.from);
  counters_.record(block.thread(), Space::global, access);
  if (!checks_races()) return;
  if (const auto diagnosis = global_races_.access(block.index(), access); !diagnosis.empty())
    block.fail(diagnosis, access.from);
}

}  // namespace ddpm::simt
