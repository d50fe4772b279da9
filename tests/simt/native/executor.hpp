// SPDX-License-Identifier: MIT
// Takes the place of the host executor where a GPU runs the kernels: it orders threads as it likes and counts nothing.
#pragma once

#include <ddpm/core/error.hpp>

#include "../counters.hpp"
#include "../schedule.hpp"

namespace ddpm::simt {

using Failure = DeviceError;

class Executor {
 public:
  static Executor& instance() {
    static Executor executor;
    return executor;
  }
  static constexpr bool counts = false;

  Schedule schedule;
  Counters sum;

  const Counters& counters() const { return sum; }
  std::int64_t launches() const { return 0; }
  bool has_hooks() const { return false; }
};

}  // namespace ddpm::simt
