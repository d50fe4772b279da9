// SPDX-License-Identifier: MIT
// Executor: runs the CUDA kernels of this library on the host, checks what they do and counts what it costs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/kernels/arch/executor_interface.hpp>

#include "access_counters.hpp"
#include "counters.hpp"
#include "fiber.hpp"
#include "global_races.hpp"
#include "schedule.hpp"

namespace ddpm::simt {

class Block;

// A launch that a GPU would reject, hang on, or run with undefined results. The message says what is wrong,
// in which thread, and on which line.
struct Failure : DeviceError {
  explicit Failure(const std::string& what) : DeviceError(what, 0) {}
};

// Of the device that is played: those that all of compute capability 8.0 to 9.0 share, but for shared memory,
// where 9.0 is the largest.
struct Limits {
  unsigned threads_per_block = 1024;
  std::size_t shared_bytes = 227 << 10;
};

// One per process. Launches of several operating-system threads run one after another.
class Executor {
 public:
  static Executor& instance();
  static constexpr bool counts = true;

  // Take effect with the next launch.
  Schedule schedule;
  Limits limits;
  std::vector<Launch>* plan = nullptr;  // where launches are only listed, without their parameters
  bool finds_races = true;  // in race builds; slower by half

  // Of the last launch, also if it failed.
  const Counters& counters() const { return counters_.totals; }
  std::int64_t launches() const { return launches_; }

  // Of all launches since the caller last cleared it, for ops that take several.
  Counters sum;

  // True where the kernels were compiled with -fsanitize=thread, whose hooks come here.
  bool has_hooks() const { return has_hooks_; }
  void set_has_hooks() { has_hooks_ = true; }

  void run(const Launch& launch);

  // Checks and counts an access of the running thread; false if the memory is neither shared nor global, as
  // that of local variables. Throws Failure.
  bool note(const Access& access);
  // As note, but such memory is an error.
  void note_device_access(const Access& access, Site at);

 private:
  friend class Block;

  Executor();
  void check_launch(const Launch& launch) const;
  void note_shared(Block& block, const Access& access);
  void note_global(Block& block, const Access& access);
  std::size_t arena_bytes() const { return arena_bytes_; }
  bool checks_races() const { return has_hooks_ && finds_races; }

  static constexpr std::size_t arena_bytes_ = std::size_t{512} << 10;

  std::mutex mutex_;
  bool has_hooks_ = false;
  std::int64_t launches_ = 0;
  AccessCounters counters_;
  GlobalRaces global_races_;
  StackPool stacks_;
  Random random_{1};
  std::byte* arena_ = nullptr;  // shared memory with red zones around it
};

}  // namespace ddpm::simt
