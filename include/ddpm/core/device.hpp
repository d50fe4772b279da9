// SPDX-License-Identifier: MIT
// Devices: where tensors live and which backend computes. Ops dispatch by overload of launch() on the
// device's type.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include <ddpm/core/memory.hpp>

namespace ddpm {

// A device is a small value. Memory it hands out is 64-byte aligned and uninitialised; copies and fills are
// ordered with the work launched on it; synchronize() waits for all of that.
template <class D>
concept Device = std::copyable<D> && std::is_trivially_copyable_v<D> &&
    requires(const D device, void* to, const void* from, std::size_t bytes) {
  { device.allocate(bytes) } -> std::same_as<void*>;
  { device.deallocate(to, bytes) }
  noexcept;
  device.upload(to, from, bytes);    // host to device
  device.download(to, from, bytes);  // device to host, complete on return
  device.copy(to, from, bytes);      // device to device
  device.zero(to, bytes);
  device.synchronize();
  { device.memory() } -> std::same_as<MemoryStats>;
  { D::is_host } -> std::convertible_to<bool>;
  { D::is_gpu } -> std::convertible_to<bool>;
};

// How a GPU multiplies float in convolutions and linear layers: as it is or, where channels are multiples of 4, on tensor
// cores, which round both factors to TF32, of 10 bits of mantissa. Sums are of float, also those for biases, which are
// not rounded. Attention is exact in either case.
enum class FloatProducts { exact, tf32 };

// What the choice of a kernel depends on.
struct GpuProperties {
  int multiprocessors;
  int capability = 80;          // 10 * major + minor
  int shared_bytes = 99 << 10;  // that a block may have; the default is the least since capability 8.0
  FloatProducts float_products = FloatProducts::exact;
};

// Runs the kernels of kernels/ddpm/kernels: Cuda, and the host executor of the tests.
template <class D>
concept GpuLike = Device<D> && D::is_gpu && requires(const D device) {
  { device.properties() } -> std::same_as<GpuProperties>;
};

// Memory of the device can be read and written by the host directly.
template <class D>
concept HostDevice = Device<D> && D::is_host;

namespace detail {
struct HostMemory {
  static constexpr bool is_host = true;
  static constexpr bool is_gpu = false;
  void* allocate(std::size_t bytes) const { return HostPool::instance().allocate(bytes); }
  void deallocate(void* block, std::size_t bytes) const noexcept {
    HostPool::instance().deallocate(block, bytes);
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
  MemoryStats memory() const { return HostPool::instance().stats(); }
};
}  // namespace detail

// The fast host backend (ops/cpu). `convolution` trades speed for rounding error, see ops/cpu/conv2d.hpp.
struct Cpu : detail::HostMemory {
  enum class Convolution { automatic, exact, fast };
  Convolution convolution = Convolution::automatic;

  Cpu() = default;
  explicit Cpu(Convolution algorithm) : convolution(algorithm) {}
};

// The oracle (ops/reference): obvious loops, accumulation in double.
struct Reference : detail::HostMemory {};

// Chosen only where no backend of the device has been included; each backend overloads launch() for its
// device.
template <class D, class Params>
void launch(const D&, const Params&) {
  static_assert(!std::same_as<D, Cpu> || sizeof(Params) == 0, "no such op for Cpu: include <ddpm/ddpm.hpp>");
  static_assert(!std::same_as<D, Reference> || sizeof(Params) == 0,
                "no such op for Reference: include <ddpm/ddpm.hpp>");
  static_assert(!D::is_gpu || sizeof(Params) == 0,
                "no kernel for this device: include <ddpm/ddpm.cuh> and compile with nvcc, or include "
                "<ddpm/compiled.hpp> and link ddpm::compiled");
}

}  // namespace ddpm
