// SPDX-License-Identifier: MIT
// CudaSim: the device that runs the CUDA kernels of this library on the host.
#pragma once

#include <cstddef>
#include <cstring>

#include <ddpm/core/device.hpp>

#include "device_memory.hpp"

namespace ddpm {

// Its memory is the host's, but as with a GPU only kernels and copies may touch it.
struct CudaSim {
  static constexpr bool is_host = false;
  static constexpr bool is_gpu = true;

  void* allocate(std::size_t bytes) const { return simt::DeviceMemory::instance().allocate(bytes); }
  void deallocate(void* block, std::size_t bytes) const noexcept {
    simt::DeviceMemory::instance().deallocate(block, bytes);
  }
  void upload(void* to, const void* from, std::size_t bytes) const { copy(to, from, bytes); }
  void download(void* to, const void* from, std::size_t bytes) const { copy(to, from, bytes); }
  void copy(void* to, const void* from, std::size_t bytes) const {
    if (bytes != 0) std::memcpy(to, from, bytes);
  }
  void zero(void* to, std::size_t bytes) const {
    if (bytes != 0) std::memset(to, 0, bytes);
  }
  void synchronize() const {}
  MemoryStats memory() const { return simt::DeviceMemory::instance().stats(); }
};

static_assert(GpuLike<CudaSim>);

}  // namespace ddpm
