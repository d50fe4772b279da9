// SPDX-License-Identifier: MIT
// launch_kernel: the one way in which kernels are started, and DDPM_DEBUG=log,sync.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include <ddpm/core/device.hpp>
#include <ddpm/core/error.hpp>
#include <ddpm/kernels/arch/target.cuh>

#if !defined(DDPM_SIMT_HOST)
#include <cxxabi.h>

#include <ddpm/core/cuda.hpp>
#endif

namespace ddpm::kernels {

// For kernels that use no shared memory.
struct NoShared {};

// What DDPM_DEBUG asks for: a list of `log` (each launch on stderr), `sync` (wait after each launch, so that
// an error is reported by the kernel that made it) and `nan` (ops check their outputs).
struct DebugOptions {
  bool log = false;
  bool sync = false;
  bool nan = false;

  static const DebugOptions& get() {
    static const DebugOptions options = parse(std::getenv("DDPM_DEBUG"));
    return options;
  }

  static DebugOptions parse(const char* list) {
    DebugOptions options;
    for (std::string_view rest = list ? list : ""; !rest.empty();) {
      const std::string_view word = rest.substr(0, rest.find(','));
      options.log |= word == "log";
      options.sync |= word == "sync";
      options.nan |= word == "nan";
      rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    }
    return options;
  }
};

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

template <class Shared, class D, class Params>
void start(const D&, dim3 grid, dim3 block, Kernel<Params> kernel, const Params& params) {
  const auto call = [](const simt::Launch& launch) {
    reinterpret_cast<Kernel<Params>>(const_cast<void*>(launch.kernel))(
        *static_cast<const Params*>(launch.params));
  };
  simt::run_grid({reinterpret_cast<const void*>(kernel), grid, block, shared_bytes<Shared>, &params, call});
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

template <class Params>
void check_launch(cudaError_t status, Kernel<Params> kernel, const char* what) {
  if (status != cudaSuccess)
    throw DeviceError(message(what, " of ", kernel_name(kernel), " failed: ", cudaGetErrorString(status)),
                      status);
}

template <class Shared, class D, class Params>
void start(const D& device, dim3 grid, dim3 block, Kernel<Params> kernel, const Params& params) {
  const ddpm::detail::CurrentDevice current(device.index());
  if constexpr (shared_bytes < Shared >> shared_without_opt_in) {
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
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (DebugOptions::get().log)
    detail::log_launch(detail::kernel_name(kernel), grid, block, detail::shared_bytes<Shared>);
  detail::start<Shared>(device, grid, block, kernel, params);
}

// Blocks of `size` that cover `count` elements.
constexpr unsigned blocks_for(std::int64_t count, int size) {
  return static_cast<unsigned>((count + size - 1) / size);
}

}  // namespace ddpm::kernels
