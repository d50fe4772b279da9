// SPDX-License-Identifier: MIT
// DDPM_DEBUG, and the order in which the executor runs what it may choose.
#include <ddpm/kernels/launch.cuh>

#include "sim_test.hpp"
#include "warp_kernels.hpp"

using namespace ddpm::simt;
using ddpm::DebugOptions;

TEST_CASE("DDPM_DEBUG is a list of words") {
  CHECK_FALSE(DebugOptions::parse(nullptr).log);
  CHECK_FALSE(DebugOptions::parse("").sync);
  const DebugOptions both = DebugOptions::parse("log,nan");
  CHECK(both.log);
  CHECK(both.nan);
  CHECK_FALSE(both.sync);
  CHECK(DebugOptions::parse("verbose,sync,").sync);
  CHECK(DebugOptions::parse("eager").any());
  CHECK_FALSE(DebugOptions::parse("verbose").any());
}

TEST_CASE("blocks_for rounds up") {
  CHECK(ddpm::kernels::blocks_for(0, 256) == 0);
  CHECK(ddpm::kernels::blocks_for(256, 256) == 1);
  CHECK(ddpm::kernels::blocks_for(257, 256) == 2);
}

TEST_CASE("schedules hold every order, and asynchronous copies that land late and early") {
  const std::vector<Schedule> schedules = all_schedules();
  const auto has = [&](auto matches) { return std::any_of(schedules.begin(), schedules.end(), matches); };
  for (const Order order : {Order::forward, Order::reverse, Order::random_warps, Order::random_threads})
    CHECK(has([&](const Schedule& schedule) { return schedule.order == order; }));
  for (const Landing landing : {Landing::late, Landing::early, Landing::random})
    CHECK(has([&](const Schedule& schedule) { return schedule.landing == landing; }));
}

TEST_CASE("launches are counted") {
  DeviceArray<int> sums(32);
  const std::int64_t before = Executor::instance().launches();
  kernels::run_half_warp_sums(sums.data());
  CHECK(Executor::instance().launches() == before + 1);
}
