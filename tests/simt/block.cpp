// SPDX-License-Identifier: MIT
#include "block.hpp"

#include <algorithm>
#include <cstring>
#include <exception>
#include <numeric>

#include "asan.hpp"

uint3 threadIdx{};
uint3 blockIdx{};
dim3 blockDim;
dim3 gridDim;

namespace ddpm::simt {

namespace {

Block* running_block = nullptr;

uint3 unflatten(std::uint32_t index, dim3 size) {
  return {index % size.x, index / size.x % size.y, index / size.x / size.y};
}

std::string text(uint3 index) {
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z) + ")";
}

bool is_same(Site a, Site b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

}  // namespace

Block::Block(Executor& executor, const Launch& launch, std::uint32_t index)
    : executor_(executor),
      launch_(launch),
      index_(index),
      threads_(launch.block.x * launch.block.y * launch.block.z),
      live_(static_cast<int>(threads_.size())),
      meetings_((threads_.size() + warp - 1) / warp),
      exited_lanes_(meetings_.size()),
      group_meetings_((threads_.size() + warpgroup - 1) / warpgroup),
      async_(*this, static_cast<int>(threads_.size())) {
  if (executor.checks_races()) races_.emplace(threads(), shared_bytes());
  for (std::size_t i = 0; i < threads_.size(); ++i)
    threads_[i].fiber.prepare(executor_.stacks_.stack(i), &Block::thread_main);
  unpoison(shared(), shared_bytes());
  std::memset(shared(), 0xff, shared_bytes());  // NaN as float and bf16
  running_block = this;
}

Block::~Block() {
  poison(shared(), shared_bytes());
  running_block = nullptr;
}

Block* Block::running() { return running_block && running_block->thread_ >= 0 ? running_block : nullptr; }

Block& Block::current(Site at) {
  if (!running()) throw Failure("a device function was called outside of a kernel [" + simt::text(at) + "]");
  return *running();
}

bool Block::lands_now() {
  const Landing landing = executor_.schedule.landing;
  return landing == Landing::early || (landing == Landing::random && executor_.random_.coin());
}

// Scheduling

void Block::run() {
  blockIdx = unflatten(index_, launch_.grid);
  std::vector<int> all(threads_.size());
  std::iota(all.begin(), all.end(), 0);
  wake_all(std::move(all));
  while (live_ > 0 && failure_.empty()) {
    if (first_ready_ < ready_.size())
      resume(next_ready());
    else if (!async_.land_bulk_copy())
      report_deadlock();
  }
  if (!failure_.empty()) throw Failure(failure_);
  while (async_.land_bulk_copy()) {
  }
  counters().end_block_step();
}

void Block::resume(int thread) {
  thread_ = thread;
  threadIdx = unflatten(static_cast<std::uint32_t>(thread), launch_.block);
  threads_[static_cast<std::size_t>(thread)].fiber.resume();
  thread_ = -1;
}

void Block::thread_main() {
  Block& block = *running_block;
  block.threads_[static_cast<std::size_t>(block.thread_)].fiber.entered();
  try {
    block.launch_.call(block.launch_);
    block.finish_thread();
  } catch (const std::exception& error) {
    block.failure_ = error.what();
  }
  block.threads_[static_cast<std::size_t>(block.thread_)].fiber.finish();
}

void Block::finish_thread() {
  async_.check_nothing_in_flight(thread_);
  if (!at_barrier_.empty())
    fail("a thread returned while others wait in __syncthreads at " + simt::text(barrier_at_), CodeAddress());
  threads_[static_cast<std::size_t>(thread_)].is_done = true;
  exited_lanes_[static_cast<std::size_t>(thread_ / warp)] |= 1u << thread_ % warp;
  --live_;
}

void Block::abandon(std::string report) {
  failure_ = std::move(report);
  threads_[static_cast<std::size_t>(thread_)].fiber.suspend();
  std::terminate();
}

void Block::wait(const char* what, Site at) {
  Thread& self = threads_[static_cast<std::size_t>(thread_)];
  self.waits_in = what;
  self.waits_at = at;
  self.fiber.suspend();
}

void Block::wake_all(std::vector<int> threads) {
  std::sort(threads.begin(), threads.end());
  if (executor_.schedule.order == Order::reverse) std::reverse(threads.begin(), threads.end());
  ready_.insert(ready_.end(), threads.begin(), threads.end());
}

int Block::next_ready() {
  const Order order = executor_.schedule.order;
  if (order == Order::random_warps || order == Order::random_threads) {
    std::size_t chosen = first_ready_ + executor_.random_.below(ready_.size() - first_ready_);
    if (order == Order::random_warps) {
      const auto is_in_last_warp = [&](int thread) { return thread / warp == last_warp_; };
      const auto begin = ready_.begin() + static_cast<std::ptrdiff_t>(first_ready_);
      if (const auto found = std::find_if(begin, ready_.end(), is_in_last_warp); found != ready_.end())
        chosen = static_cast<std::size_t>(found - ready_.begin());
      last_warp_ = ready_[chosen] / warp;
    }
    std::swap(ready_[first_ready_], ready_[chosen]);
  }
  const int thread = ready_[first_ready_++];
  if (first_ready_ == ready_.size()) {
    ready_.clear();
    first_ready_ = 0;
  }
  return thread;
}

// Cooperation

void Block::barrier(Site at) {
  if (live_ < threads()) simt::fail("__syncthreads after another thread of the block has returned", at);
  if (!at_barrier_.empty() && !is_same(barrier_at_, at))
    simt::fail("divergent __syncthreads: other threads wait at " + simt::text(barrier_at_), at);
  barrier_at_ = at;
  at_barrier_.push_back(thread_);
  if (static_cast<int>(at_barrier_.size()) == threads()) {
    ++counters().totals.block_barriers;
    counters().end_block_step();
    if (races_) races_->block_barrier();
    wake_all(std::exchange(at_barrier_, {}));
  }
  wait("__syncthreads", at);
}

void Block::check_mask(unsigned mask, const char* name, Site at) const {
  const int first = thread_ / warp * warp;
  const auto complain = [&](const char* what) { simt::fail(std::string(name) + ": " + what, at); };
  if ((mask >> thread_ % warp & 1u) == 0) complain("the calling lane is not in its own mask");
  if (threads() - first < warp && mask >> (threads() - first) != 0)
    complain("the mask names lanes that do not exist");
  if (exited_lanes_[static_cast<std::size_t>(thread_ / warp)] & mask)
    complain("a lane of the mask has already returned");
}

Block::Meeting& Block::join_meeting(unsigned mask, const Rendezvous& what, Site at) {
  auto& meetings = meetings_[static_cast<std::size_t>(thread_ / warp)];
  for (Meeting& meeting : meetings) {
    if ((meeting.mask & mask) == 0) continue;
    const auto other = [&] { return std::string(meeting.what.name) + " at " + simt::text(meeting.at); };
    if (meeting.mask != mask)
      simt::fail(std::string(what.name) + ": the mask differs from that of lanes in " + other(), at);
    if (std::strcmp(meeting.what.name, what.name) != 0 || !is_same(meeting.at, at))
      simt::fail(std::string("divergent warp operation: ") + what.name + " meets " + other(), at);
    return meeting;
  }
  Meeting& meeting = meetings.emplace_back();
  meeting.mask = mask;
  meeting.what = what;
  meeting.at = at;
  return meeting;
}

void Block::warp_rendezvous(unsigned mask, const Rendezvous& what, void* slot, Site at) {
  check_mask(mask, what.name, at);
  Meeting& meeting = join_meeting(mask, what, at);
  meeting.slots[thread_ % warp] = slot;
  meeting.arrived |= 1u << thread_ % warp;
  if (meeting.arrived == mask) {
    const Meeting complete_meeting = meeting;
    auto& meetings = meetings_[static_cast<std::size_t>(thread_ / warp)];
    meetings.erase(meetings.begin() + (&meeting - meetings.data()));
    complete(complete_meeting);
  }
  wait(what.name, at);
}

void Block::complete(const Meeting& meeting) {
  operation_at_ = meeting.at;
  meeting.what.combine(meeting.slots, meeting.mask);
  operation_at_ = {};
  count(meeting.what);
  const int first = thread_ / warp * warp;
  std::vector<int> lanes;
  for (int lane = 0; lane < warp; ++lane)
    if (meeting.mask >> lane & 1u) lanes.push_back(first + lane);
  if (races_ && meeting.what.operation == WarpOperation::memory_barrier) races_->warp_barrier(lanes);
  const int lanes_of_warp = std::min(warp, threads() - first);
  if (static_cast<int>(lanes.size()) == lanes_of_warp) counters().end_warp_step(thread_ / warp);
  wake_all(std::move(lanes));
}

void Block::warpgroup_rendezvous(const Rendezvous& what, void* slot, Site at) {
  if (threads() % warpgroup != 0)
    simt::fail(std::string(what.name) + ": the block is not made of whole warpgroups", at);
  const int first = thread_ / warpgroup * warpgroup;
  GroupMeeting& meeting = group_meetings_[static_cast<std::size_t>(thread_ / warpgroup)];
  if (meeting.arrived > 0 && !is_same(meeting.at, at))
    simt::fail(std::string("divergent warpgroup operation: other threads are in ") + meeting.what.name +
                   " at " + simt::text(meeting.at),
               at);
  meeting.what = what;
  meeting.at = at;
  meeting.slots[thread_ - first] = slot;
  if (++meeting.arrived == warpgroup) {
    meeting.arrived = 0;
    operation_at_ = at;
    what.combine(meeting.slots, ~0u);
    operation_at_ = {};
    count(what);
    std::vector<int> all(warpgroup);
    std::iota(all.begin(), all.end(), first);
    for (int index = first / warp; index < (first + warpgroup) / warp; ++index)
      counters().end_warp_step(index);
    wake_all(std::move(all));
  }
  wait(what.name, at);
}

void Block::count(const Rendezvous& what) {
  Counters& totals = counters().totals;
  switch (what.operation) {
    case WarpOperation::exchange:
      ++totals.warp_exchanges;
      break;
    case WarpOperation::memory_barrier:
      ++totals.warp_barriers;
      break;
    case WarpOperation::matrix:
      ++totals.matrix_instructions;
      break;
  }
}

// Shared memory

std::byte* Block::shared() const { return executor_.arena_ + shared_start; }

bool Block::is_near_shared(const void* address) const {
  return static_cast<const std::byte*>(address) >= executor_.arena_ &&
         static_cast<const std::byte*>(address) < executor_.arena_ + executor_.arena_bytes();
}

std::size_t Block::shared_offset(const void* address, std::size_t bytes, const char* what, Site at) const {
  if (!is_near_shared(address)) simt::fail(std::string(what) + ": the address is not in shared memory", at);
  const std::ptrdiff_t offset = static_cast<const std::byte*>(address) - shared();
  if (offset < 0 || static_cast<std::size_t>(offset) + bytes > shared_bytes())
    simt::fail(std::string(what) + ": bytes " + std::to_string(offset) + " to " +
                   std::to_string(offset + static_cast<std::ptrdiff_t>(bytes) - 1) +
                   " are outside of the block's " + std::to_string(shared_bytes()) +
                   " bytes of shared memory",
               at);
  return static_cast<std::size_t>(offset);
}

// Reports

std::string Block::thread_name(int thread) const {
  return "thread " + text(unflatten(static_cast<std::uint32_t>(thread), launch_.block));
}

void Block::fail(const std::string& what, CodeAddress at) const {
  throw Failure(what + " [" + (thread_ < 0 ? std::string() : thread_name(thread_) + ", ") + "block " +
                text(unflatten(index_, launch_.grid)) + (at.is_known() ? ", " + at.text() : std::string()) +
                "]");
}

void Block::report_deadlock() const {
  constexpr int most = 4;
  std::string report = "deadlock in block " + text(unflatten(index_, launch_.grid)) + ": ";
  std::vector<std::string> places;
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    const Thread& thread = threads_[i];
    if (thread.is_done) continue;
    const std::string place = std::string(thread.waits_in) + " at " + simt::text(thread.waits_at);
    if (std::find(places.begin(), places.end(), place) != places.end()) continue;
    if (static_cast<int>(places.size()) == most) break;
    places.push_back(place);
    report += thread_name(static_cast<int>(i)) + " waits in " + place + "; ";
  }
  report += std::to_string(live_) + " of " + std::to_string(threads()) + " threads have not returned";
  throw Failure(report);
}

}  // namespace ddpm::simt
