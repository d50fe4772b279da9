// SPDX-License-Identifier: MIT
// The built-ins of CUDA on the host: indices, shuffles, votes, barriers, atomics, fast mathematics.
#include <cmath>
#include <numeric>

#include "sim_test.hpp"
#include "warp_kernels.hpp"

using namespace ddpm::simt;
using namespace ddpm::simt::kernels;

TEST_CASE("shuffles bring the value of the lane that CUDA names") {
  DeviceArray<int> indexed(32), wrapped(32), up(32), down(32), exchanged(32);
  DeviceArray<double> wide(32);
  for_all_schedules([&] {
    run_shuffles({indexed.data(), wrapped.data(), up.data(), down.data(), exchanged.data(), wide.data()});
    for (int lane = 0; lane < 32; ++lane) {
      const auto at = static_cast<std::size_t>(lane);
      CHECK(indexed.host()[at] == 100 + (3 * lane + 1) % 32);
      CHECK(wrapped.host()[at] == 100 + lane / 8 * 8 + 3);
      CHECK(up.host()[at] == 100 + (lane % 16 >= 3 ? lane - 3 : lane));
      CHECK(down.host()[at] == 100 + (lane + 5 < 32 ? lane + 5 : lane));
      CHECK(exchanged.host()[at] == 100 + (lane ^ 7));
      CHECK(wide.host()[at] == 100.5 + (lane ^ 1));
    }
  });
}

TEST_CASE("votes see the predicates of all lanes") {
  DeviceArray<unsigned> ballot(32);
  DeviceArray<int> any(32), all(64);
  run_votes({ballot.data(), any.data(), all.data()});
  for (std::size_t lane = 0; lane < 32; ++lane) {
    CHECK(ballot.host()[lane] == 0x49249249u);
    CHECK(any.host()[lane] == 1);
    CHECK(all.host()[lane] == 1);
    CHECK(all.host()[32 + lane] == 0);
  }
}

TEST_CASE("halves of a warp may cooperate apart") {
  DeviceArray<int> sums(32);
  for_all_schedules([&] {
    run_half_warp_sums(sums.data());
    for (std::size_t lane = 0; lane < 32; ++lane) CHECK(sums.host()[lane] == (lane < 16 ? 120 : 376));
  });
}

TEST_CASE("indices count x first") {
  constexpr std::size_t blocks = 12, threads = 40;
  DeviceArray<unsigned> block(blocks * threads), thread(blocks * threads);
  for_all_schedules([&] {
    run_indices({block.data(), thread.data()});
    for (std::size_t i = 0; i < blocks * threads; ++i) {
      REQUIRE(block.host()[i] == i / threads);
      REQUIRE(thread.host()[i] == i % threads);
    }
  });
}

TEST_CASE("__syncthreads lets a block exchange values through shared memory") {
  std::vector<float> in(192);
  std::iota(in.begin(), in.end(), 0.0f);
  const DeviceArray<float> source(in);
  DeviceArray<float> out(192);
  for_all_schedules([&] {
    run_reverse(source.data(), out.data(), 3);
    for (std::size_t i = 0; i < 192; ++i)
      REQUIRE(out.host()[i] == static_cast<float>(i / 64 * 64 + 63 - i % 64));
  });
}

TEST_CASE("atomicAdd adds in shared and in global memory") {
  std::vector<int> values(1000), expected(16);
  for (std::size_t i = 0; i < values.size(); ++i)
    ++expected[static_cast<std::size_t>(values[i] = static_cast<int>(i * i % 16))];
  const DeviceArray<int> source(values);
  for_all_schedules([&] {
    DeviceArray<int> bins(std::vector<int>(16));
    run_histogram(source.data(), 1000, bins.data());
    CHECK(bins.host() == expected);
  });
}

TEST_CASE("atomicAdd exists for every type that kernels add") {
  DeviceArray<float> real(std::vector<float>{1});
  DeviceArray<double> wide(std::vector<double>{1});
  DeviceArray<unsigned> natural(std::vector<unsigned>{1});
  DeviceArray<unsigned long long> large(std::vector<unsigned long long>{1});
  run_atomics({real.data(), wide.data(), natural.data(), large.data()}, 101);
  CHECK(real.host()[0] == 1 + 51 * 0.5f);
  CHECK(wide.host()[0] == 1 + 51 * 0.25);
  CHECK(natural.host()[0] == 1 + 51 * 3);
  CHECK(large.host()[0] == 1 + 51 * (1ull << 33));
}

TEST_CASE("fast mathematics is near the functions of the standard library", "[executor]") {
  std::vector<float> x(64);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0.1f + 0.37f * static_cast<float>(i);
  const DeviceArray<float> source(x);
  DeviceArray<float> exp(64), log(64), sin(64), cos(64), rsqrt(64), quotient(64), fma(64);
  run_fast_math({source.data(), exp.data(), log.data(), sin.data(), cos.data(), rsqrt.data(), quotient.data(),
                 fma.data()},
                64);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    CHECK(exp.host()[i] == Approx(std::exp(v)).epsilon(1e-6));
    CHECK(log.host()[i] == Approx(std::log(v)).epsilon(1e-6).margin(1e-7));
    CHECK(sin.host()[i] == Approx(std::sin(v)).epsilon(1e-6).margin(1e-6));
    CHECK(cos.host()[i] == Approx(std::cos(v)).epsilon(1e-6).margin(1e-6));
    CHECK(rsqrt.host()[i] == Approx(1 / std::sqrt(v)).epsilon(1e-6));
    CHECK(quotient.host()[i] == Approx(1 / v).epsilon(1e-6));
    CHECK(fma.host()[i] == Approx(v * v + v).epsilon(1e-6));
  }
}

TEST_CASE("an empty grid is no launch") {
  DeviceArray<float> out(std::vector<float>{7});
  const std::int64_t before = Executor::instance().launches();
  run_empty_grid(out.data());
  CHECK(out.host()[0] == 7);
  CHECK(Executor::instance().launches() == before);
}

TEST_CASE("memory of the device is exact, reused, and counted", "[executor]") {
  const ddpm::CudaSim device;
  const ddpm::MemoryStats before = device.memory();
  void* first = device.allocate(37);
  device.deallocate(first, 37);
  void* second = device.allocate(37);
  CHECK(first == second);
  CHECK(reinterpret_cast<std::uintptr_t>(first) % 64 == 0);
  CHECK(device.memory().system_allocations == before.system_allocations + 1);
  CHECK(device.memory().requests == before.requests + 2);
  CHECK(device.memory().bytes_in_use == before.bytes_in_use + 37);
  device.deallocate(second, 37);
}
