// SPDX-License-Identifier: MIT
// DeviceMemory: what CudaSim calls global memory. Every block has exactly the bytes asked for, between red
// zones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include <ddpm/core/kept_blocks.hpp>
#include <ddpm/core/memory.hpp>

#include "access.hpp"

namespace ddpm::simt {

// One range of addresses, so that an access is known as one to global memory by two comparisons.
class DeviceMemory {
 public:
  static DeviceMemory& instance();

  // 256-byte aligned as cudaMalloc's, filled with 0xff (again whenever a recording is launched): NaN as float and bf16.
  // Throws std::bad_alloc.
  void* allocate(std::size_t bytes);
  void deallocate(void* block, std::size_t bytes);
  MemoryStats stats() const { return stats_; }

  // The blocks of a recording stay accessible until it is released.
  void begin_recording() { kept_.begin_recording(); }
  int end_recording() { return kept_.end_recording(); }
  void release(int graph);

  bool contains(const void* address) const {
    return reinterpret_cast<std::uintptr_t>(address) - begin_ < reserved_bytes;
  }
  // Empty where the bytes lie within one live block, else what is wrong.
  std::string find_fault(const Access& access) const;

 private:
  static constexpr std::size_t reserved_bytes = std::size_t{64} << 30;  // of address space
  static constexpr std::size_t red_zone = 256;

  DeviceMemory();
  ~DeviceMemory() = default;  // the process ends: other static objects may still hold blocks
  void make_accessible(std::uintptr_t end);

  std::uintptr_t begin_ = 0;
  std::uintptr_t next_ = 0;
  std::uintptr_t accessible_end_ = 0;
  void retire(void* block, std::size_t bytes);

  std::map<std::uintptr_t, std::size_t> live_;  // address to bytes
  ddpm::detail::KeptBlocks kept_;
  MemoryStats stats_;
};

}  // namespace ddpm::simt
