// SPDX-License-Identifier: MIT
#include <atomic>
#include <chrono>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <ddpm/core/parallel.hpp>

#include "catch_shim.hpp"

using namespace ddpm;

namespace {

// Runs with `threads` threads, and leaves the pool as it was.
struct Threads {
  int before = ThreadPool::instance().threads();
  explicit Threads(int threads) { ThreadPool::instance().resize(threads); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { ThreadPool::instance().resize(before); }
};

bool all_ones(const std::vector<int>& v) {
  for (const int x : v)
    if (x != 1) return false;
  return true;
}

}  // namespace

TEST_CASE("parallel_for visits every index once", "[parallel]") {
  for (const int threads : {1, 2, 3, 7}) {
    const Threads pool(threads);
    CHECK(ThreadPool::instance().threads() == threads);
    for (const std::size_t count : {0u, 1u, 2u, 7u, 100u, 10007u}) {
      std::vector<int> visits(count);
      parallel_for(static_cast<std::int64_t>(count),
                   [&](std::int64_t i) { ++visits[static_cast<std::size_t>(i)]; });
      CHECK(all_ones(visits));
    }
  }
}

TEST_CASE("parallel_ranges covers everything with ranges of the grain", "[parallel]") {
  const Threads pool(3);
  for (const std::int64_t grain : {1, 3, 64, 1000}) {
    std::vector<int> visits(257);
    std::atomic<int> odd_starts{0};
    parallel_ranges(257, grain, [&](std::int64_t first, std::int64_t last) {
      if (first % grain != 0 || last - first > grain) ++odd_starts;
      for (std::int64_t i = first; i < last; ++i) ++visits[static_cast<std::size_t>(i)];
    });
    CHECK(all_ones(visits));
    CHECK(odd_starts == 0);
  }
  parallel_ranges(0, 10, [](std::int64_t, std::int64_t) { FAIL("called for nothing"); });
}

TEST_CASE("many short loops follow each other, after pauses too", "[parallel]") {
  const Threads pool(4);
  std::int64_t total = 0;
  for (int round = 0; round < 500; ++round) {
    std::atomic<std::int64_t> sum{0};
    parallel_for(5, [&](std::int64_t i) { sum += i; });
    total += sum;
    if (round % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(total == 5000);
}

TEST_CASE("the first exception of a loop arrives at its caller", "[parallel]") {
  for (const int threads : {1, 3}) {
    const Threads pool(threads);
    for (int round = 0; round < 20; ++round) {
      const auto loop = [] {
        parallel_for(1000, [](std::int64_t i) {
          if (i % 100 == 37) throw std::runtime_error("thrown inside");
        });
      };
      CHECK_THROWS_WITH(loop(), "thrown inside");
    }
    std::atomic<int> visits{0};
    parallel_for(100, [&](std::int64_t) { ++visits; });
    CHECK(visits == 100);
  }
}

TEST_CASE("a loop within a loop runs on its caller", "[parallel]") {
  const Threads pool(4);
  std::vector<int> visits(50 * 40);
  std::atomic<int> strays{0};
  parallel_for(50, [&](std::int64_t i) {
    const std::thread::id caller = std::this_thread::get_id();
    parallel_for(40, [&](std::int64_t j) {
      if (std::this_thread::get_id() != caller) ++strays;
      ++visits[static_cast<std::size_t>(i * 40 + j)];
    });
  });
  CHECK(all_ones(visits));
  CHECK(strays == 0);
}

TEST_CASE("several threads may run loops at once", "[parallel]") {
  const Threads pool(3);
  std::atomic<std::int64_t> total{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) parallel_for(17, [&](std::int64_t i) { total += i; });
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(total == 4 * 200 * 136);
}

TEST_CASE("scratch grows, is kept and belongs to one thread and tag", "[parallel]") {
  struct A {};
  struct B {};
  float* a = thread_scratch<A>(100);
  CHECK(reinterpret_cast<std::uintptr_t>(a) % 64 == 0);
  CHECK(thread_scratch<A>(10) == a);
  CHECK(thread_scratch<B>(100) != a);
  CHECK(static_cast<void*>(thread_scratch<A, double>(100)) != static_cast<void*>(a));
  float* elsewhere = nullptr;
  std::thread([&] { elsewhere = thread_scratch<A>(100); }).join();
  CHECK(elsewhere != nullptr);
  CHECK(thread_scratch<A>(100) == a);
  float* larger = thread_scratch<A>(100000);
  larger[99999] = 1;
  CHECK(thread_scratch<A>(100000) == larger);
}
