// SPDX-License-Identifier: MIT
// launch_kernel: the one way in which kernels are started.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <type_traits>

#include <ddpm/core/debug.hpp>
#include <ddpm/core/device.hpp>
#include <ddpm/core/error.hpp>
#include <ddpm/kernels/arch/target.cuh>

#if !defined(DDPM_SIMT_HOST)
#include <cxxabi.h>

#include <ddpm/core/cuda.hpp>
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#endif
#endif

namespace ddpm::kernels {

// For kernels that use no shared memory.
struct NoShared {};

namespace detail {

inline constexpr std::size_t shared_without_opt_in = std::size_t{48} << 10;

template <class Shared>
inline constexpr std::size_t shared_bytes = std::is_empty_v<Shared> ? 0 : sizeof(Shared);

template <class Params>
using Kernel = void (*)(Params);

inline void log_launch(const std::string& kernel, dim3 grid, dim3 block, std::size_t shared) {
  std::fprintf(stderr, "ddpm: %s  grid (%u, %u, %u)  block (%u, %u, %u)  shared %zu\n", kernel.c_str(),
               grid.x, grid.y, grid.z, block.x, block.y, block.z, shared);
}

#if defined(DDPM_SIMT_HOST)

template <class Params>
std::string kernel_name(Kernel<Params> kernel) {
  return simt::kernel_name(reinterpret_cast<const void*>(kernel));
}

template <class D, class Params>
bool can_start(const D&, int, Kernel<Params>) {
  return true;
}

template <class Shared, class D, class Params>
void start(const D&, dim3 grid, dim3 block, Kernel<Params> kernel, const Params& params) {
  const auto call = [](const simt::Launch& launch) {
    reinterpret_cast<Kernel<Params>>(const_cast<void*>(launch.kernel))(
        *static_cast<const Params*>(launch.params));
  };
  simt::run_grid({reinterpret_cast<const void*>(kernel), grid, block, shared_bytes<Shared>, &params,
                  sizeof(Params), call});
}

#else

template <class Params>
std::string kernel_name(Kernel<Params> kernel) {
  const char* mangled = nullptr;
  if (cudaFuncGetName(&mangled, reinterpret_cast<const void*>(kernel)) != cudaSuccess)
    return "unknown kernel";
  int status = 0;
  char* plain = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  const std::string name = status == 0 ? plain : mangled;
  std::free(plain);
  return name;
}

// The driver's words, or what to do about a program that was not compiled for the current device.
inline std::string reason_of(cudaError_t status) {
  if (status != cudaErrorNoKernelImageForDevice && status != cudaErrorInvalidDeviceFunction)
    return cudaGetErrorString(status);
  int device = 0, major = 0, minor = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  return message("the program holds no code for this GPU of compute capability ", major, ".", minor,
                 ", compile it with CMAKE_CUDA_ARCHITECTURES=", major, minor, " or nvcc -arch=sm_", major,
                 minor);
}

template <class Params>
void check_launch(cudaError_t status, Kernel<Params> kernel, const char* what) {
  if (status == cudaSuccess) return;
  const std::string reason = reason_of(status);
  cudaGetLastError();  // or the next launch would report it once more
  throw DeviceError(message(what, " of ", kernel_name(kernel), " failed: ", reason), status);
}

template <class D, class Params>
bool can_start(const D& device, int threads, Kernel<Params> kernel) {
  const ddpm::detail::CurrentDevice current(device.index());
  cudaFuncAttributes attributes{};
  if (cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)) == cudaSuccess)
    return attributes.maxThreadsPerBlock >= threads;
  cudaGetLastError();  // or the next launch would report it
  return false;
}

// A range in NVIDIA's profilers, where the toolkit has their header.
struct ProfilerRange {
#if defined(NVTX_VERSION)
  explicit ProfilerRange(const std::string& name) { nvtxRangePushA(name.c_str()); }
  ~ProfilerRange() { nvtxRangePop(); }
#else
  explicit ProfilerRange(const std::string&) {}
#endif
};

template <class Shared, class D, class Params>
void start(const D& device, dim3 grid, dim3 block, Kernel<Params> kernel, const Params& params) {
  const ddpm::detail::CurrentDevice current(device.index());
  std::optional<ProfilerRange> range;
  if (DebugOptions::get().nvtx) range.emplace(kernel_name(kernel));
  if constexpr (sizeof(Shared) > shared_without_opt_in) {
    check_launch(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                      cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(shared_bytes<Shared>)),
                 kernel, "the request for shared memory");
  }
  kernel<<<grid, block, shared_bytes<Shared>, device.stream()>>>(params);
  check_launch(cudaGetLastError(), kernel, "the launch");
  if (DebugOptions::get().sync) check_launch(cudaStreamSynchronize(device.stream()), kernel, "the run");
}

#endif

}  // namespace detail

// Starts `kernel`, which takes `params` by value and, if it calls shared_memory<Shared>(), gets that much of
// it. An empty grid is no work and no error.
template <class Shared = NoShared, GpuLike D, class Params>
void launch_kernel(const D& device, dim3 grid, dim3 block, detail::Kernel<Params> kernel,
                   const std::type_identity_t<Params>& params) {
  static_assert(std::is_trivially_copyable_v<Params>);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (DebugOptions::get().log)
    detail::log_launch(detail::kernel_name(kernel), grid, block, detail::shared_bytes<Shared>);
  detail::start<Shared>(device, grid, block, kernel, params);
}

// Whether the program holds code of the kernel for this device and for blocks of as many threads. Kernels that need
// more than the target they are compiled for has say so by their launch bounds.
template <GpuLike D, class Params>
bool can_launch(const D& device, int threads, detail::Kernel<Params> kernel) {
  return detail::can_start(device, threads, kernel);
}

// Blocks of `size` that cover `count` elements.
constexpr unsigned blocks_for(std::int64_t count, int size) {
  return static_cast<unsigned>((count + size - 1) / size);
}

}  // namespace ddpm::kernels
