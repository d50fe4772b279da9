// SPDX-License-Identifier: MIT
// Prefetcher: items made ahead of their use, by a thread of its own.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace ddpm {

// A ring of items that a thread fills one after the other, until none is free. One other thread uses them in
// the same order. Item k is made by call k of `fill`, whatever the timing. Nothing is allocated but what
// `fill` allocates.
template <class Item>
class Prefetcher {
 public:
  Prefetcher(std::vector<Item> ring, std::function<void(Item&)> fill)
      : ring_(std::move(ring)), fill_(std::move(fill)), thread_([this] { work(); }) {}
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // Waits for a fill() under way.
  ~Prefetcher() {
    {
      const std::lock_guard lock(mutex_);
      is_stopping_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }

  // Waits for the next item, which is valid until pop(). What fill() threw comes here, in place of the item
  // it was to make, and ends the sequence: further calls throw it again.
  const Item& front() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return filled_ != used_ || failure_; });
    if (filled_ == used_) std::rethrow_exception(failure_);
    return ring_[used_ % ring_.size()];
  }

  // Gives the item back, to be filled again.
  void pop() {
    {
      const std::lock_guard lock(mutex_);
      ++used_;
    }
    changed_.notify_one();
  }

 private:
  void work() {
    try {
      while (Item* item = free_item()) {
        fill_(*item);
        const std::lock_guard lock(mutex_);
        ++filled_;
        changed_.notify_one();
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
      changed_.notify_one();
    }
  }

  // Waits for it; null at the end.
  Item* free_item() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_stopping_ || filled_ - used_ < ring_.size(); });
    return is_stopping_ ? nullptr : &ring_[filled_ % ring_.size()];
  }

  std::vector<Item> ring_;
  std::function<void(Item&)> fill_;
  std::mutex mutex_;
  std::condition_variable changed_;  // one side waits at a time: the ring is either full or empty
  std::uint64_t filled_ = 0, used_ = 0;
  bool is_stopping_ = false;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace ddpm
