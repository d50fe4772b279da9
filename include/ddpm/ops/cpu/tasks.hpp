// SPDX-License-Identifier: MIT
// run_tasks: parallel_for for work that may be very little.
#pragma once

#include <cstdint>

#include <ddpm/core/parallel.hpp>

namespace ddpm::detail::cpu {

// Some 5 us on one core. Waking and awaiting threads for less takes longer than it saves, by far where the
// cores are shared with other programs.
constexpr double least_parallel_operations = 5e5;

// Calls body(i) for every i < count, on all threads if `operations` in total are worth it. Which way changes
// no result, as a task depends on i alone.
template <class Body>
void run_tasks(std::int64_t count, double operations, Body&& body) {
  if (operations >= least_parallel_operations) return parallel_for(count, body);
  for (std::int64_t i = 0; i < count; ++i) body(i);
}

}  // namespace ddpm::detail::cpu
