// SPDX-License-Identifier: MIT
// What the tests of kernels share: arrays of CudaSim, every schedule, and launches that must fail. Tests tagged
// [executor] ask what a GPU does not tell.
#pragma once

#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "catch_shim.hpp"

#include "cuda_sim.hpp"
#if defined(DDPM_SIMT_HOST)
#include "executor.hpp"
#else
#include "native/executor.hpp"
#endif

namespace ddpm::simt {

// Memory of the device that is copied from and to the host.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count)
      : count_(count), data_(static_cast<T*>(CudaSim{}.allocate(count * sizeof(T)))) {}
  explicit DeviceArray(const std::vector<T>& host) : DeviceArray(host.size()) {
    CudaSim{}.upload(data_, host.data(), count_ * sizeof(T));
  }
  ~DeviceArray() { CudaSim{}.deallocate(data_, count_ * sizeof(T)); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  std::vector<T> host() const {
    std::vector<T> host(count_);
    CudaSim{}.download(host.data(), data_, count_ * sizeof(T));
    return host;
  }

 private:
  std::size_t count_;
  T* data_;
};

// Runs `body` under every schedule; the schedule is in the messages of what fails.
template <class Body>
void for_all_schedules(Body body) {
  Executor& executor = Executor::instance();
  for (const Schedule& schedule : all_schedules()) {
    INFO("order " << name(schedule.order) << ", landing " << static_cast<int>(schedule.landing) << ", seed "
                  << schedule.seed);
    executor.schedule = schedule;
    body();
  }
  executor.schedule = {};
}

// The report of a launch that must fail, or "no failure".
template <class Body>
std::string failure_of(Body body) {
  try {
    body();
  } catch (const Failure& failure) {
    return failure.what();
  }
  return "no failure";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace ddpm::simt
