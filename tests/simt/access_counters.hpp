// SPDX-License-Identifier: MIT
// AccessCounters: turns the accesses of single lanes into requests of warps and counts what they cost.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "access.hpp"
#include "counters.hpp"

namespace ddpm::simt {

enum class Space { global, shared };

// Lanes run one after another, so the accesses of one request come apart. They belong together if they come
// from the same place and each is its lane's n-th access from there since the last operation of the whole
// warp.
class AccessCounters {
 public:
  Counters totals;

  void begin_block(int threads);
  void record(int thread, Space space, const Access& access);
  void end_warp_step(int warp);
  void end_block_step();

 private:
  struct Request {
    Space space;
    AccessKind kind;
    std::size_t bytes;  // of a lane; the largest
    std::uint32_t lanes = 0;
    std::array<std::uintptr_t, 32> address{};
    std::array<std::uint8_t, 32> lane_bytes{};
  };
  struct Place {
    std::array<std::uint32_t, 32> accesses{};  // of each lane in this step
    std::vector<Request> requests;
  };
  using Step = std::unordered_map<std::uintptr_t, Place>;

  void count(const Request& request);
  void count_global(const Request& request, GlobalTraffic& traffic);
  void count_shared(const Request& request, SharedTraffic& traffic) const;

  std::vector<Step> warps_;
  std::array<std::unordered_set<std::uintptr_t>, 3> sectors_of_block_;  // by kind of access
};

}  // namespace ddpm::simt
