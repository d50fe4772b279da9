// SPDX-License-Identifier: MIT
#include "device_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "asan.hpp"
#include "recording.hpp"

namespace ddpm::simt {

namespace {

constexpr std::size_t alignment = 256;
constexpr std::size_t growth = std::size_t{4} << 20;

std::uintptr_t round_up(std::uintptr_t value, std::size_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

DeviceMemory& DeviceMemory::instance() {
  static DeviceMemory memory;
  return memory;
}

DeviceMemory::DeviceMemory() {
  void* range = mmap(nullptr, reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) throw std::bad_alloc();
  begin_ = reinterpret_cast<std::uintptr_t>(range);
  next_ = begin_ + red_zone;
  accessible_end_ = begin_;
}

void DeviceMemory::make_accessible(std::uintptr_t end) {
  if (end <= accessible_end_) return;
  const std::uintptr_t new_end = round_up(end, growth);
  void* start = reinterpret_cast<void*>(accessible_end_);
  const std::size_t bytes = new_end - accessible_end_;
  if (new_end > begin_ + reserved_bytes || mprotect(start, bytes, PROT_READ | PROT_WRITE) != 0)
    throw std::bad_alloc();
  poison(start, bytes);
  accessible_end_ = new_end;
}

void* DeviceMemory::allocate(std::size_t bytes) {
  void* block = kept_.take(bytes);
  if (!block) {
    const std::uintptr_t address = round_up(next_, alignment);
    next_ = address + bytes + red_zone;
    make_accessible(next_);
    block = reinterpret_cast<void*>(address);
    kept_.add(bytes, block);
    ++stats_.system_allocations;
    stats_.bytes_held += static_cast<std::int64_t>(bytes);
  }
  live_.emplace(reinterpret_cast<std::uintptr_t>(block), bytes);
  ++stats_.requests;
  stats_.bytes_in_use += static_cast<std::int64_t>(bytes);
  stats_.peak_bytes_in_use = std::max(stats_.peak_bytes_in_use, stats_.bytes_in_use);
  unpoison(block, bytes);
  enqueue([=] { std::memset(block, 0xff, bytes); });
  return block;
}

void DeviceMemory::deallocate(void* block, std::size_t bytes) {
  stats_.bytes_in_use -= static_cast<std::int64_t>(bytes);
  if (kept_.put(bytes, block) && !kept_.is_recording()) retire(block, bytes);
}

void DeviceMemory::release(int graph) {
  kept_.release(graph, [this](void* block, std::size_t bytes) { retire(block, bytes); });
}

void DeviceMemory::retire(void* block, std::size_t bytes) {
  live_.erase(reinterpret_cast<std::uintptr_t>(block));
  poison(block, bytes);
}

std::string DeviceMemory::find_fault(const Access& access) const {
  const auto address = reinterpret_cast<std::uintptr_t>(access.address);
  const auto after = live_.upper_bound(address);
  if (after != live_.begin()) {
    const auto& [begin, bytes] = *std::prev(after);
    if (address + access.bytes <= begin + bytes) return {};
    if (address < begin + bytes + red_zone)
      return "global " + access.text() + " at byte " + std::to_string(address - begin) +
             " of an allocation of " + std::to_string(bytes) + " bytes";
  }
  if (after != live_.end() && address + red_zone >= after->first)
    return "global " + access.text() + " starts " + std::to_string(after->first - address) +
           " bytes before an allocation";
  return "global " + access.text() + " where nothing is allocated";
}

}  // namespace ddpm::simt
