// SPDX-License-Identifier: MIT
// The thread pool of the host backend: parallel_for over indices, with work cut by the caller's shape alone.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <ddpm/core/memory.hpp>

namespace ddpm {

// One pool per process, of DDPM_THREADS threads (default: as many as the machine has), the caller among them.
// Workers spin briefly for the next loop and then sleep. Safe to call from several threads: a loop that finds
// the pool busy, or that runs inside another loop, runs on its caller alone.
class ThreadPool {
 public:
  static ThreadPool& instance() {
    static ThreadPool pool;
    return pool;
  }

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Restarts the pool with `threads` threads. Not to be called while a loop runs.
  void resize(int threads) {
    const std::lock_guard lock(mutex_);
    stop();
    start(threads);
  }

  template <class Body>
  void run(std::int64_t count, Body& body) {
    if (count <= 1 || workers_.empty() || inside_loop() || !mutex_.try_lock()) {
      for (std::int64_t i = 0; i < count; ++i) body(i);
      return;
    }
    const std::lock_guard lock(mutex_, std::adopt_lock);
    body_ = &body;
    call_ = [](void* self, std::int64_t i) { (*static_cast<Body*>(self))(i); };
    count_ = count;
    failure_ = nullptr;
    next_.store(0, std::memory_order_relaxed);
    gate_.fetch_and(~closed, std::memory_order_release);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    work();
    gate_.fetch_or(closed, std::memory_order_acq_rel);
    for (std::uint32_t gate, spins = 0; (gate = gate_.load(std::memory_order_acquire)) != closed; ++spins)
      if (spins < spin_limit)
        pause();
      else
        gate_.wait(gate, std::memory_order_acquire);
    if (failure_) std::rethrow_exception(failure_);
  }

  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

 private:
  static constexpr int spin_limit =
      20000;  // some 50 us: longer than the serial work between two loops of a step

  // The gate counts the workers inside a loop. A worker that wakes after the caller has closed it turns back,
  // so a loop never waits for a thread that the system has not got round to running.
  static constexpr std::uint32_t closed = 1u << 31;

  ThreadPool() {
    const char* wanted = std::getenv("DDPM_THREADS");
    const int threads = wanted ? std::atoi(wanted) : 0;
    start(threads > 0 ? threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  }
  ~ThreadPool() { stop(); }

  static bool& inside_loop() {
    thread_local bool inside = false;
    return inside;
  }

  static void pause() { __builtin_ia32_pause(); }

  void start(int threads) {
    stopping_.store(false);
    const std::uint32_t seen = generation_.load();
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, seen] { serve(seen); });
  }

  void stop() {
    stopping_.store(true);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

  void serve(std::uint32_t seen) {
    for (;;) {
      for (std::uint32_t spins = 0; generation_.load(std::memory_order_acquire) == seen; ++spins)
        if (spins < spin_limit)
          pause();
        else
          generation_.wait(seen, std::memory_order_acquire);
      ++seen;
      if (stopping_.load()) return;
      if ((gate_.fetch_add(1, std::memory_order_acquire) & closed) == 0) work();
      gate_.fetch_sub(1, std::memory_order_release);
      gate_.notify_one();
    }
  }

  void work() {
    inside_loop() = true;
    try {
      for (std::int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) call_(body_, i);
    } catch (...) {
      next_.store(count_, std::memory_order_relaxed);
      const std::lock_guard lock(failure_mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
    inside_loop() = false;
  }

  std::mutex mutex_;
  std::vector<std::thread> workers_;
  std::atomic<std::uint32_t> generation_{0};
  std::atomic<bool> stopping_{false};
  void* body_ = nullptr;
  void (*call_)(void*, std::int64_t) = nullptr;
  std::int64_t count_ = 0;
  std::atomic<std::int64_t> next_{0};
  std::atomic<std::uint32_t> gate_{closed};
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
};

// Calls body(i) for every i in [0, count). Which thread runs which i is not fixed, so what body(i) computes
// must depend on i alone; then results do not depend on the number of threads. The first exception is
// rethrown here.
template <class Body>
void parallel_for(std::int64_t count, Body&& body) {
  ThreadPool::instance().run(count, body);
}

// Calls body(first, last) on consecutive ranges of `grain` indices that cover [0, count).
template <class Body>
void parallel_ranges(std::int64_t count, std::int64_t grain, Body&& body) {
  parallel_for((count + grain - 1) / grain,
               [&](std::int64_t i) { body(i * grain, std::min(count, (i + 1) * grain)); });
}

// Scratch of the calling thread: `count` elements, 64-byte aligned, contents unspecified, valid until the
// next call with the same Tag and T on this thread. Grows and is kept.
template <class Tag, class T = float>
T* thread_scratch(std::size_t count) {
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<T[], Free> buffer;
  thread_local std::size_t capacity = 0;
  if (count > capacity) {
    buffer.reset(static_cast<T*>(detail::take_block(count * sizeof(T))));
    capacity = count;
  }
  return buffer.get();
}

}  // namespace ddpm
