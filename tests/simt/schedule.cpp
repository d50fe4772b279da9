// SPDX-License-Identifier: MIT
#include "schedule.hpp"

namespace ddpm::simt {

std::vector<Schedule> all_schedules() {
  std::vector<Schedule> schedules;
  for (const Order order : {Order::forward, Order::reverse})
    for (const Landing landing : {Landing::late, Landing::early}) schedules.push_back({order, landing, 1});
  for (const std::uint64_t seed : {1, 2}) schedules.push_back({Order::random_warps, Landing::random, seed});
  for (const std::uint64_t seed : {1, 2, 3})
    schedules.push_back({Order::random_threads, Landing::random, seed});
  return schedules;
}

const char* name(Order order) {
  switch (order) {
    case Order::forward:
      return "forward";
    case Order::reverse:
      return "reverse";
    case Order::random_warps:
      return "random_warps";
    case Order::random_threads:
      return "random_threads";
  }
  return "?";
}

}  // namespace ddpm::simt
