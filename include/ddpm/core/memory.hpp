// SPDX-License-Identifier: MIT
// HostPool: host memory that is taken from the system once and handed out again.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

// Present only when the program is built with AddressSanitizer.
extern "C" {
[[gnu::weak]] void __asan_poison_memory_region(const volatile void*, std::size_t);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void*, std::size_t);
}

namespace ddpm {

struct MemoryStats {
  std::int64_t system_allocations = 0;  // blocks ever taken from the system; constant once shapes repeat
  std::int64_t requests = 0;            // blocks ever handed out
  std::int64_t bytes_in_use = 0;
  std::int64_t peak_bytes_in_use = 0;
  std::int64_t bytes_held = 0;  // in use and kept for reuse
};

namespace detail {

constexpr std::size_t huge_page = std::size_t{2} << 20;

// For std::free(). Aligned to 64 bytes, and on huge pages where it is as large as one. Throws std::bad_alloc.
inline void* take_block(std::size_t size) {
  void* block = nullptr;
  if (posix_memalign(&block, size >= huge_page ? huge_page : 64, size) != 0) throw std::bad_alloc();
  if (size >= huge_page) madvise(block, size, MADV_HUGEPAGE);
  return block;
}

}  // namespace detail

// Thread-safe. Blocks are kept by size and reused last-in first-out, so a repeated sequence of requests gets
// the same addresses again. Under AddressSanitizer the tail of a block, and every kept block, is poisoned.
class HostPool {
 public:
  static constexpr std::size_t alignment = 64;

  static HostPool& instance() {
    static HostPool pool;
    return pool;
  }

  // Throws std::bad_alloc. `bytes` may be 0.
  void* allocate(std::size_t bytes) {
    const std::size_t size = block_size(bytes);
    const std::lock_guard lock(mutex_);
    std::vector<void*>& kept = kept_[size];
    void* block;
    if (kept.empty()) {
      block = take_from_system(size);
    } else {
      block = kept.back();
      kept.pop_back();
    }
    ++stats_.requests;
    stats_.bytes_in_use += static_cast<std::int64_t>(size);
    stats_.peak_bytes_in_use = std::max(stats_.peak_bytes_in_use, stats_.bytes_in_use);
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(block, bytes);
    return block;
  }

  void deallocate(void* block, std::size_t bytes) noexcept {
    const std::size_t size = block_size(bytes);
    const std::lock_guard lock(mutex_);
    if (__asan_poison_memory_region) __asan_poison_memory_region(block, size);
    kept_[size].push_back(block);  // capacity was reserved when the block was taken
    stats_.bytes_in_use -= static_cast<std::int64_t>(size);
  }

  // Returns every kept block to the system.
  void trim() noexcept {
    const std::lock_guard lock(mutex_);
    for (auto& [size, blocks] : kept_) {
      for (void* block : blocks) {
        if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(block, size);
        std::free(block);
        stats_.bytes_held -= static_cast<std::int64_t>(size);
      }
      blocks.clear();
    }
  }

  MemoryStats stats() const {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

  // What a request for so many bytes takes.
  static std::size_t block_size(std::size_t bytes) {
    const std::size_t unit = bytes >= detail::huge_page ? detail::huge_page / 8 : alignment;
    return (std::max<std::size_t>(bytes, 1) + unit - 1) / unit * unit;
  }

  HostPool(const HostPool&) = delete;
  HostPool& operator=(const HostPool&) = delete;

 private:
  HostPool() = default;
  ~HostPool() { trim(); }

  void* take_from_system(std::size_t size) {
    void* block = detail::take_block(size);
    if (__asan_poison_memory_region) __asan_poison_memory_region(block, size);
    ++stats_.system_allocations;
    stats_.bytes_held += static_cast<std::int64_t>(size);
    std::size_t& taken = taken_[size];
    kept_[size].reserve(++taken);
    return block;
  }

  mutable std::mutex mutex_;
  std::unordered_map<std::size_t, std::vector<void*>> kept_;
  std::unordered_map<std::size_t, std::size_t>
      taken_;  // blocks of each size ever taken: the most that can be kept
  MemoryStats stats_;
};

}  // namespace ddpm
