// SPDX-License-Identifier: MIT
// Recording: the work of CudaSim that is done when a graph is launched.
#pragma once

#include <functional>
#include <vector>

#include <ddpm/core/error.hpp>

namespace ddpm::simt {

// Does the work, or adds it to what the calling thread records.
void enqueue(std::function<void()> work);

// Throws DeviceError while the calling thread records.
void refuse_while_recording(const char* call);

// What CudaGraph is to Cuda. Move-only.
class Recording {
 public:
  explicit Recording(const std::function<void()>& body);
  Recording(Recording&& other) noexcept;
  Recording& operator=(Recording&&) = delete;
  ~Recording();

  void launch() const;
  std::size_t size() const { return work_.size(); }

 private:
  friend void enqueue(std::function<void()> work);

  std::vector<std::function<void()>> work_;
  int blocks_ = 0;  // of DeviceMemory; 0: none
};

}  // namespace ddpm::simt
