// SPDX-License-Identifier: MIT
// CudaSim: the device that runs the CUDA kernels of this library on the host. Natively, in native/, the GPU takes its
// place.
#pragma once

#if !defined(DDPM_SIMT_HOST)
#include <ddpm/core/cuda.hpp>

namespace ddpm {
using CudaSim = Cuda;
}
#else

#include <cstddef>
#include <cstring>

#include <ddpm/core/device.hpp>
#include <ddpm/core/graph.hpp>

#include "device_memory.hpp"
#include "recording.hpp"

namespace ddpm {

// Its memory is the host's, but as with a GPU only kernels and copies may touch it.
struct CudaSim {
  static constexpr bool is_host = false;
  static constexpr bool is_gpu = true;
  using Graph = simt::Recording;

  FloatProducts float_products = FloatProducts::exact;

  void* allocate(std::size_t bytes) const { return simt::DeviceMemory::instance().allocate(bytes); }
  void deallocate(void* block, std::size_t bytes) const noexcept {
    simt::DeviceMemory::instance().deallocate(block, bytes);
  }
  void upload(void* to, const void* from, std::size_t bytes) const {
    simt::refuse_while_recording("upload");
    copy(to, from, bytes);
  }
  void download(void* to, const void* from, std::size_t bytes) const {
    simt::refuse_while_recording("download");
    copy(to, from, bytes);
  }
  void copy(void* to, const void* from, std::size_t bytes) const {
    if (bytes != 0) simt::enqueue([=] { std::memcpy(to, from, bytes); });
  }
  void zero(void* to, std::size_t bytes) const {
    if (bytes != 0) simt::enqueue([=] { std::memset(to, 0, bytes); });
  }
  void synchronize() const { simt::refuse_while_recording("synchronize"); }
  template <class Body>
  Graph capture(Body&& body) const {
    return Graph(body);
  }
  MemoryStats memory() const { return simt::DeviceMemory::instance().stats(); }
  // Those of an H100.
  GpuProperties properties() const {
    return {.multiprocessors = 132,
            .capability = 90,
            .shared_bytes = 227 << 10,
            .float_products = float_products};
  }
};

static_assert(GpuLike<CudaSim> && GraphDevice<CudaSim>);

}  // namespace ddpm

#endif
