// SPDX-License-Identifier: MIT
// In which order the executor runs threads and blocks, and when asynchronous copies land.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace ddpm::simt {

enum class Order {
  forward,
  reverse,
  random_warps,    // one warp runs as far as it can
  random_threads,  // any thread that can run
};

enum class Landing {
  late,    // when a wait needs the copy, or when no thread can run
  early,   // at issue
  random,  // either, by chance
};

struct Schedule {
  Order order = Order::forward;
  Landing landing = Landing::late;
  std::uint64_t seed = 1;
};

// What every kernel is run under; results must not differ. Forward and reverse order alone miss every
// overwrite of data that a slower warp still reads.
std::vector<Schedule> all_schedules();

const char* name(Order order);

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::size_t below(std::size_t bound) { return static_cast<std::size_t>(engine_() % bound); }
  bool coin() { return engine_() >> 63 != 0; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace ddpm::simt
