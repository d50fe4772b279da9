// SPDX-License-Identifier: MIT
// Cuda: a GPU and a stream on it. Needs only cuda_runtime_api.h, so it is plain C++.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <utility>

#include <cuda_runtime_api.h>

#include <ddpm/core/device.hpp>
#include <ddpm/core/error.hpp>
#include <ddpm/core/graph.hpp>
#include <ddpm/core/kept_blocks.hpp>

namespace ddpm {

namespace detail {

inline void cuda_check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next launch would report it once more
  throw DeviceError(message(call, " failed: ", cudaGetErrorString(status)), status);
}

// Makes a device the calling thread's current one, and the former one again at the end.
class CurrentDevice {
 public:
  explicit CurrentDevice(int index) {
    cuda_check(cudaGetDevice(&former_), "cudaGetDevice");
    if (former_ != index) cuda_check(cudaSetDevice(index), "cudaSetDevice");
  }
  ~CurrentDevice() { cudaSetDevice(former_); }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int former_ = 0;
};

// The library's own stream of a device, made at the first use and kept until the process ends.
inline cudaStream_t own_stream(int index) {
  static std::mutex mutex;
  static std::map<int, cudaStream_t> streams;
  const std::lock_guard lock(mutex);
  const auto [entry, is_new] = streams.try_emplace(index, nullptr);
  if (is_new) {
    try {
      const CurrentDevice current(index);
      cuda_check(cudaStreamCreateWithFlags(&entry->second, cudaStreamNonBlocking),
                 "cudaStreamCreateWithFlags");
    } catch (...) {
      streams.erase(entry);
      throw;
    }
  }
  return entry->second;
}

// Memory of all devices, kept by stream, so that reuse within one stream needs no wait. Thread-safe.
class CudaPool {
 public:
  static CudaPool& instance() {
    static CudaPool pool;
    return pool;
  }

  void* allocate(int device, cudaStream_t stream, std::size_t bytes) {
    const std::size_t size = block_size(bytes);
    const std::lock_guard lock(mutex_);
    KeptBlocks& kept = kept_[{device, stream}];
    void* block = kept.take(size);
    if (!block) block = take_from_system(device, stream, size);
    MemoryStats& stats = stats_[device];
    ++stats.requests;
    stats.bytes_in_use += static_cast<std::int64_t>(size);
    stats.peak_bytes_in_use = std::max(stats.peak_bytes_in_use, stats.bytes_in_use);
    return block;
  }

  void deallocate(int device, cudaStream_t stream, void* block, std::size_t bytes) noexcept {
    const std::size_t size = block_size(bytes);
    const std::lock_guard lock(mutex_);
    kept_[{device, stream}].put(size, block);
    stats_[device].bytes_in_use -= static_cast<std::int64_t>(size);
  }

  void begin_recording(int device, cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    kept_[{device, stream}].begin_recording();
  }
  int end_recording(int device, cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    return kept_[{device, stream}].end_recording();
  }
  void release(int device, cudaStream_t stream, int graph) {
    const std::lock_guard lock(mutex_);
    kept_[{device, stream}].release(graph, [](void*, std::size_t) {});
  }

  MemoryStats stats(int device) {
    const std::lock_guard lock(mutex_);
    return stats_[device];
  }

  CudaPool(const CudaPool&) = delete;
  CudaPool& operator=(const CudaPool&) = delete;

 private:
  // The driver may be gone when static objects are destroyed, so the blocks are left to the end of the
  // process.
  CudaPool() = default;
  ~CudaPool() = default;

  static std::size_t block_size(std::size_t bytes) {
    constexpr std::size_t unit = 512;
    return (std::max<std::size_t>(bytes, 1) + unit - 1) / unit * unit;
  }

  void* take_from_system(int device, cudaStream_t stream, std::size_t size) {
    const CurrentDevice current(device);
    KeptBlocks& kept = kept_[{device, stream}];
    void* block = nullptr;
    const cudaError_t status =
        kept.is_recording() ? allocate_while_recording(&block, size) : cudaMallocAsync(&block, size, stream);
    cuda_check(status, message("the allocation of ", size, " bytes, with ", stats_[device].bytes_in_use,
                               " bytes in use,")
                           .c_str());
    MemoryStats& stats = stats_[device];
    ++stats.system_allocations;
    stats.bytes_held += static_cast<std::int64_t>(size);
    kept.add(size, block);
    return block;
  }

  // Not in the order of the stream, which would make the allocation a part of the graph.
  static cudaError_t allocate_while_recording(void** block, std::size_t size) {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    cudaThreadExchangeStreamCaptureMode(&mode);
    const cudaError_t status = cudaMalloc(block, size);
    cudaThreadExchangeStreamCaptureMode(&mode);
    return status;
  }

  std::mutex mutex_;
  std::map<std::pair<int, cudaStream_t>, KeptBlocks> kept_;
  std::map<int, MemoryStats> stats_;
};

}  // namespace detail

// A recording of Cuda's work, see ddpm/core/graph.hpp. Move-only.
class CudaGraph {
 public:
  // Records what `body` does with the stream, which the calling thread alone uses meanwhile.
  template <class Body>
  CudaGraph(int device, cudaStream_t stream, Body&& body) : device_(device), stream_(stream) {
    const detail::CurrentDevice current(device);
    detail::CudaPool& pool = detail::CudaPool::instance();
    detail::cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
                       "cudaStreamBeginCapture");
    pool.begin_recording(device, stream);
    cudaGraph_t graph = nullptr;
    try {
      body();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      if (graph) cudaGraphDestroy(graph);
      cudaGetLastError();
      pool.release(device, stream, pool.end_recording(device, stream));
      throw;
    }
    blocks_ = pool.end_recording(device, stream);
    cudaError_t status = cudaStreamEndCapture(stream, &graph);
    if (status == cudaSuccess) status = cudaGraphInstantiate(&executable_, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (status != cudaSuccess) pool.release(device, stream, blocks_);
    detail::cuda_check(status, "the recording of a graph");
  }
  CudaGraph(CudaGraph&& other) noexcept
      : device_(other.device_),
        stream_(other.stream_),
        blocks_(other.blocks_),
        executable_(std::exchange(other.executable_, nullptr)) {}
  CudaGraph& operator=(CudaGraph&&) = delete;
  ~CudaGraph() {
    if (!executable_) return;
    cudaGraphExecDestroy(executable_);
    detail::CudaPool::instance().release(device_, stream_, blocks_);
  }

  void launch() const {
    const detail::CurrentDevice current(device_);
    detail::cuda_check(cudaGraphLaunch(executable_, stream_), "cudaGraphLaunch");
  }

 private:
  int device_;
  cudaStream_t stream_;
  int blocks_ = 0;
  cudaGraphExec_t executable_ = nullptr;
};

// Cuda{1} works on the second GPU with a stream of the library's own; Cuda{stream} on the current GPU with a
// stream that the caller keeps alive. Copies of the value are the same device. Threads may share it as they
// may share a stream. `float_products` trades rounding error for speed.
class Cuda {
 public:
  static constexpr bool is_host = false;
  static constexpr bool is_gpu = true;
  using Graph = CudaGraph;
  FloatProducts float_products = FloatProducts::exact;

  Cuda() = default;
  explicit Cuda(int index, FloatProducts products = FloatProducts::exact)
      : float_products(products), index_(index) {
    int count = 0;
    detail::cuda_check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    check<ConfigError>(index >= 0 && index < count, "Cuda: there is no device ", index, ", there are ",
                       count);
  }
  explicit Cuda(cudaStream_t stream, FloatProducts products = FloatProducts::exact)
      : float_products(products), borrowed_(stream) {
    detail::cuda_check(cudaGetDevice(&index_), "cudaGetDevice");
  }

  int index() const { return index_; }
  cudaStream_t stream() const { return borrowed_ ? borrowed_ : detail::own_stream(index_); }

  void* allocate(std::size_t bytes) const {
    return detail::CudaPool::instance().allocate(index_, stream(), bytes);
  }
  void deallocate(void* block, std::size_t bytes) const noexcept {
    detail::CudaPool::instance().deallocate(index_, stream(), block, bytes);
  }
  void upload(void* to, const void* from, std::size_t bytes) const {
    refuse_while_recording("upload");
    copy(to, from, bytes, cudaMemcpyHostToDevice);
  }
  void download(void* to, const void* from, std::size_t bytes) const {
    refuse_while_recording("download");
    copy(to, from, bytes, cudaMemcpyDeviceToHost);
    synchronize();
  }
  void copy(void* to, const void* from, std::size_t bytes) const {
    copy(to, from, bytes, cudaMemcpyDeviceToDevice);
  }
  void zero(void* to, std::size_t bytes) const {
    if (bytes == 0) return;
    const detail::CurrentDevice current(index_);
    detail::cuda_check(cudaMemsetAsync(to, 0, bytes, stream()), "cudaMemsetAsync");
  }
  void synchronize() const {
    refuse_while_recording("synchronize");
    detail::cuda_check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
  }
  template <class Body>
  Graph capture(Body&& body) const {
    return {index_, stream(), body};
  }
  MemoryStats memory() const { return detail::CudaPool::instance().stats(index_); }
  GpuProperties properties() const {
    const auto attribute = [&](cudaDeviceAttr which) {
      int value = 0;
      detail::cuda_check(cudaDeviceGetAttribute(&value, which, index_), "cudaDeviceGetAttribute");
      return value;
    };
    return {.multiprocessors = attribute(cudaDevAttrMultiProcessorCount),
            .capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor) +
                          attribute(cudaDevAttrComputeCapabilityMinor),
            .shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin),
            .float_products = float_products};
  }

 private:
  void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) const {
    if (bytes == 0) return;
    const detail::CurrentDevice current(index_);
    detail::cuda_check(cudaMemcpyAsync(to, from, bytes, kind, stream()), "cudaMemcpyAsync");
  }
  // Before the call that would spoil the recording.
  void refuse_while_recording(const char* call) const {
    cudaStreamCaptureStatus status;
    detail::cuda_check(cudaStreamIsCapturing(stream(), &status), "cudaStreamIsCapturing");
    if (status != cudaStreamCaptureStatusNone)
      throw detail::recording_error(call, cudaErrorStreamCaptureUnsupported);
  }

  int index_ = 0;
  cudaStream_t borrowed_ = nullptr;  // null: the library's own
};

}  // namespace ddpm
