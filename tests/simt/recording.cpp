// SPDX-License-Identifier: MIT
#include "recording.hpp"

#include <utility>

#include <ddpm/core/graph.hpp>

#include "device_memory.hpp"

namespace ddpm::simt {

namespace {

thread_local Recording* under_way = nullptr;

}  // namespace

void enqueue(std::function<void()> work) {
  if (under_way)
    under_way->work_.push_back(std::move(work));
  else
    work();
}

void refuse_while_recording(const char* call) {
  if (under_way) throw detail::recording_error(call, 0);
}

Recording::Recording(const std::function<void()>& body) {
  refuse_while_recording("capture");
  DeviceMemory& memory = DeviceMemory::instance();
  memory.begin_recording();
  under_way = this;
  try {
    body();
  } catch (...) {
    under_way = nullptr;
    memory.release(memory.end_recording());
    throw;
  }
  under_way = nullptr;
  blocks_ = memory.end_recording();
}

Recording::Recording(Recording&& other) noexcept
    : work_(std::move(other.work_)), blocks_(std::exchange(other.blocks_, 0)) {}

Recording::~Recording() {
  if (blocks_ != 0) DeviceMemory::instance().release(blocks_);
}

void Recording::launch() const {
  for (const std::function<void()>& work : work_) enqueue(work);
}

}  // namespace ddpm::simt
