// SPDX-License-Identifier: MIT
// DryRun<D>: a device that computes nothing and counts what D would have to: memory, and operations of sums of products.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>

#include <ddpm/core/device.hpp>
#include <ddpm/ops/cost.hpp>

namespace ddpm {

// What a dry run has used so far. Memory is counted as the pool hands it out: blocks are kept by size, so `bytes_held`
// is the sum over sizes of the most that were in use at once.
struct DryRunUsage {
  std::int64_t bytes_in_use = 0;
  std::int64_t bytes_held = 0;
  std::int64_t flops = 0;

  struct Blocks {
    std::int64_t in_use = 0, most = 0;
  };
  std::map<std::size_t, Blocks> blocks = {};  // by size
};

// A model on it has shapes but no contents: nothing is read or written. Its copies share one usage, which outlives them.
template <Device D>
struct DryRun {
  static constexpr bool is_host = false;
  static constexpr bool is_gpu = false;

  DryRunUsage* usage = nullptr;
  D like = {};  // whose layouts and sizes it takes

  void* allocate(std::size_t bytes) const {
    const std::size_t size = HostPool::block_size(bytes);
    DryRunUsage::Blocks& blocks = usage->blocks[size];
    usage->bytes_in_use += static_cast<std::int64_t>(size);
    if (++blocks.in_use > blocks.most) {
      blocks.most = blocks.in_use;
      usage->bytes_held += static_cast<std::int64_t>(size);
    }
    return reinterpret_cast<void*>(HostPool::alignment);  // not null, and never followed
  }
  void deallocate(void*, std::size_t bytes) const noexcept {
    const std::size_t size = HostPool::block_size(bytes);
    usage->bytes_in_use -= static_cast<std::int64_t>(size);
    --usage->blocks[size].in_use;
  }
  void upload(void*, const void*, std::size_t) const {}
  void download(void*, const void*, std::size_t) const {}
  void copy(void*, const void*, std::size_t) const {}
  void zero(void*, std::size_t) const {}
  void synchronize() const {}
  MemoryStats memory() const {
    return {.bytes_in_use = usage->bytes_in_use, .bytes_held = usage->bytes_held};
  }
};

template <Device D, class Params>
void launch(const DryRun<D>& device, const Params& params) {
  if constexpr (requires { cost(params).flops; }) device.usage->flops += cost(params).flops;
}

template <class T, Device D>
std::int64_t conv2d_prepared_size(const DryRun<D>& device, const Conv2dGeometry& shape, Conv2dPass pass) {
  return conv2d_prepared_size<T>(device.like, shape, pass);
}

template <class T, Device D>
bool conv2d_gives_moments(const DryRun<D>& device, const Conv2dGeometry& shape) {
  return conv2d_gives_moments<T>(device.like, shape);
}

}  // namespace ddpm
