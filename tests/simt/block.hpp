// SPDX-License-Identifier: MIT
// Block: the threads of one CUDA block, and where they wait for one another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async_units.hpp"
#include "code_address.hpp"
#include "executor.hpp"
#include "shared_races.hpp"

namespace ddpm::simt {

// Where the block's shared memory starts in the arena, and in the addresses that instructions see; a multiple
// of the 1024 bytes that swizzled tiles are aligned to.
inline constexpr std::size_t shared_start = 1024;

class Block {
 public:
  Block(Executor& executor, const Launch& launch, std::uint32_t index);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  // Runs all threads to their end; throws Failure.
  void run();

  // The block whose thread is running, or null between launches.
  static Block* running();
  // Fails outside of a kernel.
  static Block& current(Site at);

  // Of the operation whose lanes are being combined, which knows no place itself.
  Site operation_at() const { return operation_at_; }
  int thread() const { return thread_; }
  int threads() const { return static_cast<int>(threads_.size()); }
  std::uint32_t index() const { return index_; }
  AsyncUnits& async() { return async_; }
  SharedRaces* races() { return races_ ? &*races_ : nullptr; }
  AccessCounters& counters() { return executor_.counters_; }
  bool lands_now();  // decides for one asynchronous copy

  void barrier(Site at);
  void warp_rendezvous(unsigned mask, const Rendezvous& what, void* slot, Site at);
  void warpgroup_rendezvous(const Rendezvous& what, void* slot, Site at);

  // Ends the launch with this report and leaves the running thread where it is. For callers that must not
  // throw.
  [[noreturn]] void abandon(std::string report);

  // Suspends the running thread until another wakes it.
  void wait(const char* what, Site at);
  void wake(int thread) { ready_.push_back(thread); }

  std::byte* shared() const;
  std::size_t shared_bytes() const { return launch_.shared_bytes; }
  bool is_near_shared(const void* address) const;
  // From the first shared byte; fails unless all of the bytes are the block's.
  std::size_t shared_offset(const void* address, std::size_t bytes, const char* what, Site at) const;

  // Ends the launch with this report of the running thread.
  [[noreturn]] void fail(const std::string& what, CodeAddress at) const;

 private:
  static constexpr int warp = 32;
  static constexpr int warpgroup = 128;

  struct Thread {
    Fiber fiber;
    bool is_done = false;
    const char* waits_in = nullptr;
    Site waits_at;
  };
  // Lanes (or threads of a warpgroup) that have come to one operation so far.
  struct Meeting {
    unsigned mask = 0;
    unsigned arrived = 0;
    Rendezvous what{};
    Site at;
    void* slots[warp] = {};
  };
  struct GroupMeeting {
    int arrived = 0;
    Rendezvous what{};
    Site at;
    void* slots[warpgroup] = {};
  };

  static void thread_main();
  void resume(int thread);
  void wake_all(std::vector<int> threads);
  int next_ready();
  void finish_thread();
  void check_mask(unsigned mask, const char* name, Site at) const;
  Meeting& join_meeting(unsigned mask, const Rendezvous& what, Site at);
  void complete(const Meeting& meeting);
  void count(const Rendezvous& what);
  [[noreturn]] void report_deadlock() const;
  std::string thread_name(int thread) const;

  Executor& executor_;
  const Launch& launch_;
  std::uint32_t index_;
  std::vector<Thread> threads_;
  std::vector<int> ready_;
  std::size_t first_ready_ = 0;
  int thread_ = -1;     // the running one
  int last_warp_ = -1;  // that random_warps lets run on
  int live_ = 0;
  std::string failure_;
  Site operation_at_;

  std::vector<int> at_barrier_;
  Site barrier_at_;
  std::vector<std::vector<Meeting>> meetings_;  // [warp]
  std::vector<unsigned> exited_lanes_;          // [warp]
  std::vector<GroupMeeting> group_meetings_;    // [warpgroup]
  std::optional<SharedRaces> races_;
  AsyncUnits async_;
};

}  // namespace ddpm::simt
