// SPDX-License-Identifier: MIT
// The executor finds planted faults: each kernel here has one, and the report must name it and its line.
#include <cmath>
#include <numeric>

#include "faulty_hopper_kernels.hpp"
#include "faulty_kernels.hpp"
#include "sim_test.hpp"

using namespace ddpm::simt;
using namespace ddpm::simt::kernels;

namespace {

struct Outcome {
  std::string report;
  std::vector<float> out;
};

Outcome run(Fault fault, const Schedule& schedule = {}) {
  std::vector<float> values(256);
  std::iota(values.begin(), values.end(), 1.0f);
  const DeviceArray<float> in(values), out(256);
  Executor::instance().schedule = schedule;
  Outcome outcome;
  outcome.report = failure_of([&] { run_fault(fault, {in.data(), out.data(), values.data()}); });
  Executor::instance().schedule = {};
  outcome.out = out.host();
  return outcome;
}

// Whether some schedule gives other bits than the forward one, or a NaN: what is left to find a race by
// without hooks.
bool depends_on_schedule(Fault fault, std::size_t count) {
  const auto is_same = [&](const std::vector<float>& a, const std::vector<float>& b) {
    return std::memcmp(a.data(), b.data(), count * sizeof(float)) == 0;
  };
  const std::vector<float> first = run(fault).out;
  if (std::any_of(first.begin(), first.begin() + static_cast<std::ptrdiff_t>(count),
                  [](float x) { return std::isnan(x); }))
    return true;
  const auto schedules = all_schedules();
  return std::any_of(schedules.begin(), schedules.end(),
                     [&](const Schedule& schedule) { return !is_same(first, run(fault, schedule).out); });
}

bool has_hooks() { return Executor::instance().has_hooks(); }

void check_report(Fault fault, const std::string& expected, const std::string& file = "faulty_kernels.cpp:") {
  const std::string report = run(fault).report;
  INFO(report);
  CHECK(contains(report, expected));
  CHECK(contains(report, file));
}

// Races are reported in race builds; elsewhere some schedule must show a wrong result.
void check_race(Fault fault, const std::string& expected, std::size_t results = 192) {
  if (has_hooks())
    check_report(fault, expected);
  else
    CHECK(depends_on_schedule(fault, results));
}

}  // namespace

TEST_CASE("the kernel without a fault is not reported") {
  CHECK(run(Fault::none).report == "no failure");
  CHECK_FALSE(depends_on_schedule(Fault::none, 192));
}

TEST_CASE("races in shared memory") {
  check_race(Fault::no_barrier_before_read, "finds bytes that nobody has written");
  check_race(
      Fault::no_barrier_before_overwrite,
      "race in shared memory: read of 4 bytes at offset 124 is not ordered after the write by thread 31");
  check_race(Fault::no_warp_barrier, "finds bytes that nobody has written", 64);
  check_race(Fault::no_write, "finds bytes that nobody has written");
  if (has_hooks()) check_report(Fault::count_without_atomic, "is not ordered after the write by thread 0");
}

TEST_CASE("races are reported in every order of execution") {
  if (!has_hooks()) return;
  for (const Schedule& schedule : all_schedules()) {
    INFO(name(schedule.order));
    CHECK(contains(run(Fault::no_barrier_before_read, schedule).report, "shared memory"));
    CHECK(contains(run(Fault::no_barrier_before_overwrite, schedule).report, "race in shared memory"));
    CHECK(contains(run(Fault::copy_waited_too_weakly, schedule).report, "race in shared memory"));
  }
}

TEST_CASE("both places of a race are named") {
  if (!has_hooks()) return;
  const std::string report = run(Fault::no_barrier_before_overwrite).report;
  INFO(report);
  const std::size_t first = report.find("faulty_kernels.cpp:");
  REQUIRE(first != std::string::npos);
  CHECK(report.find("faulty_kernels.cpp:", first + 1) != std::string::npos);
  CHECK(contains(report, "block (0,0,0)"));
}

TEST_CASE("barriers that not all threads reach") {
  check_report(Fault::divergent_barrier,
               "divergent __syncthreads: other threads wait at faulty_kernels.cpp:");
  check_report(Fault::barrier_after_return, "__syncthreads after another thread of the block has returned");
  check_report(Fault::return_beside_barrier, "a thread returned while others wait in __syncthreads");
}

TEST_CASE("warp operations with the wrong lanes") {
  check_report(Fault::half_warp_at_shuffle,
               "divergent warp operation: __shfl_xor_sync meets __shfl_xor_sync");
  check_report(Fault::lane_not_in_mask, "the calling lane is not in its own mask");
  check_report(Fault::masks_differ, "the mask differs from that of lanes in __shfl_xor_sync");
  check_report(Fault::returned_lane_in_mask, "a lane of the mask has already returned");
  check_report(Fault::lane_that_does_not_exist, "the mask names lanes that do not exist");
  check_report(Fault::shuffle_from_outside_mask, "a shuffle reads lane 20, which is not in the mask");
}

TEST_CASE("faults of cp.async") {
  const char* const not_waited = "meets bytes of a cp.async that nobody has waited for";
  if (has_hooks()) {
    check_report(Fault::copy_without_wait, not_waited);
    check_report(Fault::copy_waited_too_weakly, not_waited);
    check_report(Fault::copy_without_commit, not_waited);
    check_report(Fault::copy_without_barrier, "finds bytes that nobody has written");
    check_report(Fault::copy_overwritten_in_flight, "meets bytes of a copy that nobody has waited for");
  } else {
    CHECK(contains(run(Fault::copy_without_wait).report,
                   "a thread returned while its cp.async were in flight"));
    CHECK(contains(run(Fault::copy_waited_too_weakly).report,
                   "a thread returned while its cp.async were in flight"));
    CHECK(contains(run(Fault::copy_without_commit).report,
                   "a thread returned while its cp.async were in flight"));
    CHECK(depends_on_schedule(Fault::copy_without_barrier, 64));
    CHECK(depends_on_schedule(Fault::copy_overwritten_in_flight, 64));
  }
  check_report(Fault::copy_misaligned, "cp.async: an address is not aligned to 16 bytes");
  check_report(Fault::copy_source_too_large, "cp.async: source size 20 is not within 0 to 16");
}

TEST_CASE("races between blocks in global memory") {
  if (!has_hooks()) return;
  check_report(Fault::blocks_write_same, "race between blocks in global memory: write of 4 bytes by block 1");
  check_report(Fault::block_reads_what_other_writes, "and the bytes are read by block 0");
  check_report(Fault::atomic_beside_plain, "race between blocks in global memory");
  const std::string reverse = run(Fault::blocks_write_same, {Order::reverse, Landing::late, 1}).report;
  CHECK(contains(reverse, "race between blocks in global memory: write of 4 bytes by block 0"));
}

TEST_CASE("accesses outside of memory and against alignment") {
  check_report(Fault::vector_misaligned, "vector load of 16 bytes: the address is not aligned to the size");
  check_report(Fault::vector_beyond_end,
               "global vector load of 16 bytes at byte 1024 of an allocation of 1024 bytes");
  check_report(Fault::host_pointer, "the address is neither in shared nor in global memory");
  check_report(Fault::ldmatrix_misaligned, "ldmatrix of 16 bytes: the address is not aligned to the size");
  check_report(Fault::ldmatrix_of_global, "the address is not in shared memory");
  if (!has_hooks()) return;  // else for the sanitizers, see the tests named simt_abort
  check_report(Fault::scalar_beyond_end,
               "global read of 4 bytes at byte 1028 of an allocation of 1024 bytes");
  check_report(Fault::scalar_misaligned, "write of 4 bytes: the address is not aligned to the size");
  check_report(Fault::shared_index_beyond_end,
               "shared write of 4 bytes at offset 256, outside of the block's 256 bytes");
}

TEST_CASE("launches that no GPU accepts") {
  check_report(Fault::too_many_threads, "a block of (1025,1,1) threads, at most 1024 are possible",
               "touch_kernel");
  check_report(Fault::too_much_shared, "240000 bytes of shared memory, at most 232448 are possible",
               "touch_kernel");
  check_report(Fault::other_shared_size,
               "the kernel takes 256 bytes of shared memory, the launch gave it 512");
}

TEST_CASE("faults of mbarriers, TMA and wgmma") {
  const auto report_of = [](HopperFault fault) {
    std::vector<float> values(64 * 64, 1.0f);
    const DeviceArray<ddpm::bf16> tile(std::vector<ddpm::bf16>(64 * 64, ddpm::bf16(1.0f)));
    const DeviceArray<float> out(values);
    return failure_of([&] { run_hopper_fault(fault, {tile.data(), out.data()}); });
  };
  const auto check = [&](HopperFault fault, const std::string& expected) {
    const std::string report = report_of(fault);
    INFO(report);
    CHECK(contains(report, expected));
    CHECK(contains(report, "faulty_hopper_kernels.cpp:"));
  };
  CHECK(report_of(HopperFault::none) == "no failure");
  check(HopperFault::too_many_bytes_expected, "waits in mbarrier.try_wait");
  check(HopperFault::too_few_arrivals, "deadlock in block (0,0,0)");
  check(HopperFault::too_many_arrivals, "mbarrier: more than 1 arrivals in one phase");
  check(HopperFault::not_initialised, "mbarrier: it has not been initialised");
  check(HopperFault::tile_misaligned, "tma_load: the destination is not 1024-byte aligned");
  check(HopperFault::operands_differ, "wgmma: the threads of the warpgroup bring different operands");
  if (has_hooks()) {
    check(HopperFault::no_barrier_after_init, "mbarrier operation of 8 bytes");
    check(HopperFault::no_wait_for_tile, "meets bytes of a bulk copy that nobody has waited for");
    Executor::instance().schedule.landing = Landing::early;
    check(HopperFault::no_wait_for_tile, "without a wait for the mbarrier of the bulk copy");
    Executor::instance().schedule = {};
    check(HopperFault::overwritten_before_wait,
          "write of 1 bytes at offset 0 is not ordered after the read by thread 0");
    Executor::instance().schedule.order = Order::reverse;
    check(HopperFault::overwritten_before_wait, "overwrites what a wgmma that nobody has waited for reads");
    Executor::instance().schedule = {};
  }
  CHECK(contains(report_of(HopperFault::no_wait_for_product),
                 "a thread returned while its wgmma were in flight"));
  CHECK(contains(report_of(HopperFault::no_commit), "a thread returned while its wgmma were in flight"));
}
