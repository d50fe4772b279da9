// SPDX-License-Identifier: MIT
// Prefetcher: order, bounds, exceptions and the end.

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <ddpm/train/prefetcher.hpp>

#include "catch_shim.hpp"

using namespace ddpm;

namespace {

void wait_a_little() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

// Fills item k with k.
auto counting(std::atomic<int>& made) {
  return [&made](int& item) { item = made++; };
}

}  // namespace

TEST_CASE("items come in order, however slow either side is", "[prefetcher]") {
  for (const std::size_t room : {1u, 2u, 5u})
    for (const int slow : {0, 1, 2}) {
      INFO("room " << room << " slow " << slow);
      int made = 0;
      Prefetcher<int> queue(std::vector<int>(room, -1), [&](int& item) {
        if (slow == 1 && made % 7 == 0) wait_a_little();
        item = made++;
      });
      const int items = slow == 0 ? 5000 : 30;
      int wrong = 0;
      for (int i = 0; i < items; ++i) {
        wrong += queue.front() != i;
        if (slow == 2 && i % 7 == 0) wait_a_little();
        wrong += queue.front() != i;  // still the same
        queue.pop();
      }
      CHECK(wrong == 0);
    }
}

TEST_CASE("no more is made than there is room for", "[prefetcher]") {
  std::atomic<int> made = 0;
  Prefetcher<int> queue(std::vector<int>(3), counting(made));
  for (int used = 0; used < 5; ++used) {
    while (made < used + 3) std::this_thread::yield();
    wait_a_little();
    CHECK(made == used + 3);
    CHECK(queue.front() == used);
    wait_a_little();
    CHECK(made == used + 3);
    queue.pop();
  }
}

TEST_CASE("an exception comes in the place of its item, and again", "[prefetcher]") {
  for (const int bad : {0, 1, 5}) {
    INFO(bad);
    int made = 0;
    Prefetcher<int> queue(std::vector<int>(3), [&](int& item) {
      if (made == bad) throw std::runtime_error("item " + std::to_string(made));
      item = made++;
    });
    wait_a_little();  // so that it has been thrown before the items ahead of it are used
    for (int i = 0; i < bad; ++i) {
      CHECK(queue.front() == i);
      queue.pop();
    }
    for (int again = 0; again < 3; ++again) {
      std::string text;
      try {
        queue.front();
      } catch (const std::runtime_error& error) {
        text = error.what();
      }
      CHECK(text == "item " + std::to_string(bad));
    }
  }
}

TEST_CASE("an exception that nobody asks for is dropped", "[prefetcher]") {
  for (int i = 0; i < 20; ++i) {
    Prefetcher<int> queue(std::vector<int>(2), [](int&) { throw 1; });
    if (i % 2 == 0) wait_a_little();
  }
}

TEST_CASE("a queue ends at any time", "[prefetcher]") {
  std::atomic<int> made = 0, under_way = 0;
  for (int i = 0; i < 300; ++i) {
    Prefetcher<int> queue(std::vector<int>(2), [&](int& item) {
      ++under_way;
      if (i % 100 == 99) wait_a_little();
      item = made++;
      --under_way;
    });
    for (int used = 0; used < i % 4; ++used) {
      queue.front();
      queue.pop();
    }
  }
  CHECK(under_way == 0);
}
