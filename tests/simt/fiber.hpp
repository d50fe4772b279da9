// SPDX-License-Identifier: MIT
// Fibers: stacks that take turns on one operating-system thread. One fiber per CUDA thread of a block.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace ddpm::simt {

class Fiber {
 public:
  using Entry = void (*)();

  // Makes the next resume() call `entry` on `stack`; entry ends with finish().
  void prepare(std::span<std::byte> stack, Entry entry);

  // Runs the fiber until it suspends or finishes. Called on the scheduler's stack.
  void resume();
  // Returns to the scheduler. Called on the fiber's stack.
  void suspend();
  [[noreturn]] void finish();
  // First call in entry().
  void entered();

 private:
  void* stack_pointer_ = nullptr;
  std::span<std::byte> stack_;
  void* asan_stack_ = nullptr;  // AddressSanitizer's bookkeeping while the fiber is suspended
};

// Stacks with an inaccessible page below each, kept from launch to launch.
class StackPool {
 public:
  StackPool() = default;
  ~StackPool();
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;

  std::span<std::byte> stack(std::size_t index);

 private:
  std::vector<std::span<std::byte>> stacks_;
};

}  // namespace ddpm::simt
