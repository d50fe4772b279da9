// SPDX-License-Identifier: MIT
// KeptBlocks: memory that is kept for the next request of its size, or for a recorded graph.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ddpm::detail {

// Blocks are handed out last in, first out: a repeated sequence of requests gets the same addresses. A block that is
// handed out or given back during a recording is one that the graph will work on whenever it is launched, so from then
// on nobody else gets it until the graph is released. Not thread-safe.
class KeptBlocks {
 public:
  // Null where none of this size is kept.
  void* take(std::size_t size) {
    std::vector<void*>& kept = kept_[size];
    if (kept.empty()) return nullptr;
    void* block = kept.back();
    kept.pop_back();
    note(size, block);
    return block;
  }

  // A new block, which is in use.
  void add(std::size_t size, void* block) {
    kept_[size].reserve(++added_[size]);  // so that put() needs no memory
    note(size, block);
  }

  // False where the block stays with a graph.
  bool put(std::size_t size, void* block) {
    if (const auto held = held_.find(block); held != held_.end()) {
      held->second.is_free = true;
      return false;
    }
    kept_[size].push_back(block);
    note(size, block);
    return true;
  }

  bool is_recording() const { return is_recording_; }
  void begin_recording() { is_recording_ = true; }

  // The number by which to release the blocks of what was recorded.
  int end_recording() {
    is_recording_ = false;
    ++graphs_;
    for (const auto& [block, size] : std::exchange(touched_, {})) {
      std::vector<void*>& kept = kept_[size];
      const auto place = std::find(kept.begin(), kept.end(), block);
      const bool is_free = place != kept.end();
      if (is_free) kept.erase(place);
      held_.insert({block, {size, graphs_, is_free}});
    }
    return graphs_;
  }

  // Calls give_back(block, size) for the blocks of the graph that nobody uses any more; they are kept again.
  template <class F>
  void release(int graph, F&& give_back) {
    std::erase_if(held_, [&](const auto& entry) {
      const auto& [block, held] = entry;
      if (held.graph != graph) return false;
      if (held.is_free) {
        kept_[held.size].push_back(block);
        give_back(block, held.size);
      }
      return true;
    });
  }

 private:
  struct Held {
    std::size_t size;
    int graph;
    bool is_free;
  };

  void note(std::size_t size, void* block) {
    if (is_recording_) touched_.insert({block, size});
  }

  std::unordered_map<std::size_t, std::vector<void*>> kept_;
  std::unordered_map<std::size_t, std::size_t> added_;  // blocks of each size: the most that can be kept
  std::unordered_map<void*, Held> held_;                // by graphs
  std::map<void*, std::size_t> touched_;                // in the recording under way
  bool is_recording_ = false;
  int graphs_ = 0;
};

}  // namespace ddpm::detail
