// SPDX-License-Identifier: MIT
// The counters of a launch, for patterns whose cost can be told by hand.
#include "counted_kernels.hpp"
#include "sim_test.hpp"

using namespace ddpm::simt;
using namespace ddpm::simt::kernels;

namespace {

const Counters& counters() { return Executor::instance().counters(); }

DeviceArray<float> zeros(std::size_t count) { return DeviceArray<float>(std::vector<float>(count)); }

void check(const GlobalTraffic& traffic, std::int64_t requests, std::int64_t sectors, std::int64_t bytes) {
  CHECK(traffic.requests == requests);
  CHECK(traffic.sectors == sectors);
  CHECK(traffic.bytes == bytes);
}

void check(const SharedTraffic& traffic, std::int64_t wavefronts, std::int64_t bank_conflicts) {
  CHECK(traffic.requests == 1);
  CHECK(traffic.wavefronts == wavefronts);
  CHECK(traffic.bank_conflicts == bank_conflicts);
}

}  // namespace

TEST_CASE("sectors of vector requests") {
  const auto in = zeros(2048), out = zeros(128);
  for_all_schedules([&] {
    run_vector_loads({in.data(), out.data(), 1, 0});
    check(counters().global_loads, 1, 16, 512);
    check(counters().global_stores, 1, 16, 512);
    CHECK(counters().global_bytes() == 1024);  // both ways
  });
  run_vector_loads({in.data(), out.data(), 2, 0});  // every other 16 bytes: half of each sector
  check(counters().global_loads, 1, 32, 512);
  run_vector_loads({in.data(), out.data(), 0, 4});  // all lanes the same 16 bytes
  check(counters().global_loads, 1, 1, 512);
}

TEST_CASE("sectors of scalar requests") {
  if (!Executor::instance().has_hooks()) return;
  CHECK(counters().has_scalar_accesses);
  const auto in = zeros(2048), out = zeros(32);
  for_all_schedules([&] {
    run_scalar_loads({in.data(), out.data(), 1, 0});  // 128 bytes, aligned
    check(counters().global_loads, 1, 4, 128);
    check(counters().global_stores, 1, 4, 128);
    CHECK(counters().global_loads.sectors_per_request() == 4);
  });
  run_scalar_loads({in.data(), out.data(), 1, 1});  // shifted by 4 bytes: one sector more
  check(counters().global_loads, 1, 5, 128);
  run_scalar_loads({in.data(), out.data(), 2, 0});
  check(counters().global_loads, 1, 8, 128);
  run_scalar_loads({in.data(), out.data(), 32, 0});  // each lane its own sector
  check(counters().global_loads, 1, 32, 128);
  run_scalar_loads({in.data(), out.data(), 0, 7});
  check(counters().global_loads, 1, 1, 128);
}

TEST_CASE("turns of a loop are requests of their own, also where lanes leave early") {
  if (!Executor::instance().has_hooks()) return;
  const auto in = zeros(8 * 32), out = zeros(32);
  for_all_schedules([&] {
    run_uneven_loop(in.data(), out.data(), 8);
    check(counters().global_loads, 8, 4 * 4 + 4 * 2, 4 * 128 + 4 * 64);
  });
}

TEST_CASE("bank conflicts of words") {
  if (!Executor::instance().has_hooks()) return;
  const auto out = zeros(32);
  const auto run = [&](int stride, int skew) {
    run_shared_words({stride, skew, out.data()});
    return counters();
  };
  check(run(1, 0).shared_stores, 1, 0);
  check(run(1, 0).shared_loads, 1, 0);
  check(run(2, 0).shared_stores, 2, 1);
  check(run(8, 0).shared_stores, 8, 7);
  check(run(32, 0).shared_stores, 32, 31);
  check(run(32, 0).shared_loads, 32, 31);
  check(run(32, 1).shared_loads, 1, 0);  // padded rows
  check(run(33, 0).shared_loads, 1, 0);
  CHECK(run(1, 0).shared_loads.bytes == 128);
}

TEST_CASE("bank conflicts of vectors, served by quarter warps") {
  const auto out = zeros(32);
  const auto run = [&](int stride) {
    run_shared_vectors({stride, 0, out.data()});
    return counters();
  };
  check(run(1).shared_stores, 4, 0);
  check(run(1).shared_loads, 4, 0);
  check(run(2).shared_loads, 8, 4);
  check(run(8).shared_loads, 32, 28);
}

TEST_CASE("bank conflicts of ldmatrix") {
  const auto out = zeros(32);
  run_ldmatrix_rows(1, out.data());
  check(counters().shared_loads, 4, 0);
  run_ldmatrix_rows(8, out.data());  // rows of 128 bytes without a swizzle
  check(counters().shared_loads, 32, 28);
}

TEST_CASE("barriers and warp operations") {
  const auto out = zeros(1);
  run_synchronisation(out.data());
  CHECK(counters().block_barriers == 2 * 3);
  CHECK(counters().warp_barriers == 4 * 2);
  CHECK(counters().warp_exchanges == 4 * (5 + 1));
  CHECK(counters().matrix_instructions == 0);
  check(counters().global_atomics, 4 * 4, 4 * 4, 128 * 4 * 4);
}
