// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdint>
#include <vector>

#include <ddpm/core/kept_blocks.hpp>

#include "catch_shim.hpp"

using ddpm::detail::KeptBlocks;

namespace {

// Blocks of one size, named by numbers.
constexpr std::size_t size = 512;
void* block(int number) { return reinterpret_cast<void*>(static_cast<std::uintptr_t>(number) * size); }

std::vector<void*> release(KeptBlocks& kept, int graph) {
  std::vector<void*> released;
  kept.release(graph, [&](void* given_back, std::size_t bytes) {
    CHECK(bytes == size);
    released.push_back(given_back);
  });
  return released;
}

}  // namespace

TEST_CASE("kept blocks are handed out by size, last in, first out") {
  KeptBlocks kept;
  for (int i = 1; i <= 3; ++i) kept.add(size, block(i));
  CHECK(kept.take(size) == nullptr);
  for (int i = 1; i <= 3; ++i) CHECK(kept.put(size, block(i)));
  CHECK(kept.take(2 * size) == nullptr);
  for (int i = 3; i >= 1; --i) CHECK(kept.take(size) == block(i));
  CHECK(kept.take(size) == nullptr);
}

TEST_CASE("a recording keeps what it touched, and nothing else") {
  KeptBlocks kept;
  for (int i = 1; i <= 5; ++i) kept.add(size, block(i));
  for (int i : {1, 2, 3}) kept.put(size, block(i));  // 4 and 5 are in use
  CHECK_FALSE(kept.is_recording());
  kept.begin_recording();
  CHECK(kept.is_recording());
  CHECK(kept.take(size) == block(3));  // used for a while
  CHECK(kept.put(size, block(3)));
  CHECK(kept.take(size) == block(3));  // and once more, to the end of the recording
  CHECK(kept.take(size) == block(2));
  CHECK(kept.put(size, block(2)));
  CHECK(kept.put(size, block(4)));  // of earlier work
  kept.add(size, block(6));         // the pool ran dry
  const int graph = kept.end_recording();
  CHECK_FALSE(kept.is_recording());

  CHECK(kept.take(size) == block(1));
  CHECK(kept.take(size) == nullptr);
  CHECK_FALSE(kept.put(size, block(3)));
  CHECK(kept.put(size, block(5)));
  CHECK(kept.take(size) == block(5));
  CHECK(kept.take(size) == nullptr);

  CHECK(release(kept, graph + 1).empty());
  std::vector<void*> released = release(kept, graph);
  std::sort(released.begin(), released.end());
  CHECK(released == std::vector{block(2), block(3), block(4)});
  std::vector<void*> again;
  while (void* next = kept.take(size)) again.push_back(next);
  std::sort(again.begin(), again.end());
  CHECK(again == released);
  CHECK(kept.put(size, block(6)));  // it was in use until after the release
  CHECK(kept.take(size) == block(6));
}

TEST_CASE("graphs hold their blocks apart from each other") {
  KeptBlocks kept;
  kept.add(size, block(1));
  kept.add(size, block(2));
  kept.put(size, block(1));
  kept.begin_recording();
  kept.take(size);
  const int first = kept.end_recording();
  kept.begin_recording();
  CHECK_FALSE(kept.put(size, block(1)));
  kept.put(size, block(2));
  const int second = kept.end_recording();
  CHECK(first != second);
  CHECK(kept.take(size) == nullptr);
  CHECK(release(kept, first) == std::vector{block(1)});
  CHECK(release(kept, second) == std::vector{block(2)});
}
