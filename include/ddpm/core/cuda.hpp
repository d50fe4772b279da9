// SPDX-License-Identifier: MIT
// Cuda: a GPU and a stream on it. Needs only cuda_runtime_api.h, so it is plain C++.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include <cuda_runtime_api.h>

#include <ddpm/core/device.hpp>
#include <ddpm/core/error.hpp>

namespace ddpm {

namespace detail {

inline void cuda_check(cudaError_t status, const char* call) {
  if (status != cudaSuccess)
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

// Memory of all devices. Blocks are kept by stream and size and handed out again last in, first out: a
// repeated sequence of requests gets the same addresses, which a captured graph relies on, and reuse within
// one stream needs no wait. Thread-safe.
class CudaPool {
 public:
  static CudaPool& instance() {
    static CudaPool pool;
    return pool;
  }

  void* allocate(int device, cudaStream_t stream, std::size_t bytes) {
    const std::size_t size = block_size(bytes);
    const std::lock_guard lock(mutex_);
    std::vector<void*>& kept = kept_[{device, stream, size}];
    if (kept.empty()) kept.push_back(take_from_system(device, stream, size, kept));
    void* block = kept.back();
    kept.pop_back();
    MemoryStats& stats = stats_[device];
    ++stats.requests;
    stats.bytes_in_use += static_cast<std::int64_t>(size);
    stats.peak_bytes_in_use = std::max(stats.peak_bytes_in_use, stats.bytes_in_use);
    return block;
  }

  void deallocate(int device, cudaStream_t stream, void* block, std::size_t bytes) noexcept {
    const std::size_t size = block_size(bytes);
    const std::lock_guard lock(mutex_);
    kept_[{device, stream, size}].push_back(block);  // capacity was reserved when the block was taken
    stats_[device].bytes_in_use -= static_cast<std::int64_t>(size);
  }

  MemoryStats stats(int device) {
    const std::lock_guard lock(mutex_);
    return stats_[device];
  }

  CudaPool(const CudaPool&) = delete;
  CudaPool& operator=(const CudaPool&) = delete;

 private:
  using Key = std::tuple<int, cudaStream_t, std::size_t>;

  // The driver may be gone when static objects are destroyed, so the blocks are left to the end of the
  // process.
  CudaPool() = default;
  ~CudaPool() = default;

  static std::size_t block_size(std::size_t bytes) {
    constexpr std::size_t unit = 512;
    return (std::max<std::size_t>(bytes, 1) + unit - 1) / unit * unit;
  }

  void* take_from_system(int device, cudaStream_t stream, std::size_t size, std::vector<void*>& kept) {
    const CurrentDevice current(device);
    void* block = nullptr;
    const cudaError_t status = cudaMallocAsync(&block, size, stream);
    if (status != cudaSuccess)
      throw DeviceError(message("cudaMallocAsync of ", size, " bytes failed: ", cudaGetErrorString(status),
                                "; ", stats_[device].bytes_in_use, " bytes are in use"),
                        status);
    MemoryStats& stats = stats_[device];
    ++stats.system_allocations;
    stats.bytes_held += static_cast<std::int64_t>(size);
    kept.reserve(static_cast<std::size_t>(++taken_[{device, stream, size}]));
    return block;
  }

  std::mutex mutex_;
  std::map<Key, std::vector<void*>> kept_;
  std::map<Key, std::int64_t> taken_;  // blocks of each kind ever taken: the most that can be kept
  std::map<int, MemoryStats> stats_;
};

}  // namespace detail

// Cuda{1} works on the second GPU with a stream of the library's own; Cuda{stream} on the current GPU with a
// stream that the caller keeps alive. Copies of the value are the same device. Threads may share it as they
// may share a stream.
class Cuda {
 public:
  static constexpr bool is_host = false;
  static constexpr bool is_gpu = true;

  Cuda() = default;
  explicit Cuda(int index) : index_(index) {
    int count = 0;
    detail::cuda_check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    check<ConfigError>(index >= 0 && index < count, "Cuda: there is no device ", index, ", there are ",
                       count);
  }
  explicit Cuda(cudaStream_t stream) : borrowed_(stream) {
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
    copy(to, from, bytes, cudaMemcpyHostToDevice);
  }
  void download(void* to, const void* from, std::size_t bytes) const {
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
  void synchronize() const { detail::cuda_check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize"); }
  MemoryStats memory() const { return detail::CudaPool::instance().stats(index_); }

 private:
  void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) const {
    if (bytes == 0) return;
    const detail::CurrentDevice current(index_);
    detail::cuda_check(cudaMemcpyAsync(to, from, bytes, kind, stream()), "cudaMemcpyAsync");
  }

  int index_ = 0;
  cudaStream_t borrowed_ = nullptr;  // null: the library's own
};

}  // namespace ddpm
