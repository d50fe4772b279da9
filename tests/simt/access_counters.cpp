// SPDX-License-Identifier: MIT
#include "access_counters.hpp"

#include <algorithm>

namespace ddpm::simt {

namespace {

constexpr int warp = 32;
constexpr int banks = 32;
constexpr std::uintptr_t word_bytes = 4;

// Turns that the banks take for the lanes [first, last): the most different words that one bank has to serve.
int turns(const std::array<std::uintptr_t, 32>& address, std::uint32_t lanes, std::size_t bytes, int first,
          int last) {
  std::array<std::array<std::uintptr_t, warp>, banks> words;
  std::array<int, banks> count{};
  for (int lane = first; lane < last; ++lane) {
    if ((lanes >> lane & 1u) == 0) continue;
    const std::uintptr_t begin = address[static_cast<std::size_t>(lane)] / word_bytes;
    const std::uintptr_t end = (address[static_cast<std::size_t>(lane)] + bytes - 1) / word_bytes;
    for (std::uintptr_t word = begin; word <= end; ++word) {
      const std::size_t bank = word % banks;
      const auto last_word = words[bank].begin() + count[bank];
      if (std::find(words[bank].begin(), last_word, word) == last_word)
        words[bank][static_cast<std::size_t>(count[bank]++)] = word;
    }
  }
  return *std::max_element(count.begin(), count.end());
}

}  // namespace

void AccessCounters::begin_block(int threads) {
  warps_.assign(static_cast<std::size_t>((threads + warp - 1) / warp), {});
  for (auto& sectors : sectors_of_block_) sectors.clear();
}

void AccessCounters::record(int thread, Space space, const Access& access) {
  const auto lane = static_cast<std::size_t>(thread % warp);
  const auto stream = static_cast<std::uintptr_t>(space) * 3 + static_cast<std::uintptr_t>(access.kind);
  // Six streams (two spaces, three kinds) from each place; addresses of code leave the upper bits free.
  Place& place = warps_[static_cast<std::size_t>(thread / warp)][access.from.word() * 6 + stream];
  const std::size_t ordinal = place.accesses[lane]++;
  if (place.requests.size() <= ordinal) place.requests.push_back({space, access.kind, 0, 0, {}, {}});
  Request& request = place.requests[ordinal];
  request.bytes = std::max(request.bytes, access.bytes);
  request.lanes |= 1u << lane;
  request.address[lane] = reinterpret_cast<std::uintptr_t>(access.address);
  request.lane_bytes[lane] = static_cast<std::uint8_t>(access.bytes);
}

void AccessCounters::end_warp_step(int index) {
  Step& step = warps_[static_cast<std::size_t>(index)];
  for (const auto& [place, accesses] : step)
    for (const Request& request : accesses.requests) count(request);
  step.clear();
}

void AccessCounters::end_block_step() {
  for (int index = 0; index < static_cast<int>(warps_.size()); ++index) end_warp_step(index);
}

void AccessCounters::count(const Request& request) {
  const auto kind = static_cast<std::size_t>(request.kind);
  if (request.space == Space::global) {
    GlobalTraffic* const traffic[] = {&totals.global_loads, &totals.global_stores, &totals.global_atomics};
    count_global(request, *traffic[kind]);
  } else {
    SharedTraffic* const traffic[] = {&totals.shared_loads, &totals.shared_stores, &totals.shared_atomics};
    count_shared(request, *traffic[kind]);
  }
}

void AccessCounters::count_global(const Request& request, GlobalTraffic& traffic) {
  std::vector<std::uintptr_t> sectors;
  for (std::size_t lane = 0; lane < warp; ++lane) {
    if ((request.lanes >> lane & 1u) == 0) continue;
    const std::uintptr_t end = request.address[lane] + request.lane_bytes[lane];
    for (std::uintptr_t sector = request.address[lane] / sector_bytes; sector * sector_bytes < end; ++sector)
      sectors.push_back(sector);
    traffic.bytes += request.lane_bytes[lane];
  }
  std::sort(sectors.begin(), sectors.end());
  sectors.erase(std::unique(sectors.begin(), sectors.end()), sectors.end());
  traffic.sectors += static_cast<std::int64_t>(sectors.size());
  auto& of_block = sectors_of_block_[static_cast<std::size_t>(request.kind)];
  for (const std::uintptr_t sector : sectors)
    traffic.sectors_of_blocks += of_block.insert(sector).second ? 1 : 0;
  ++traffic.requests;
}

void AccessCounters::count_shared(const Request& request, SharedTraffic& traffic) const {
  const int lanes_at_once = request.bytes <= 4 ? warp : request.bytes == 8 ? warp / 2 : warp / 4;
  for (int first = 0; first < warp; first += lanes_at_once) {
    const int needed = turns(request.address, request.lanes, request.bytes, first, first + lanes_at_once);
    traffic.wavefronts += needed;
    traffic.bank_conflicts += std::max(needed - 1, 0);
  }
  for (std::size_t lane = 0; lane < warp; ++lane)
    if (request.lanes >> lane & 1u) traffic.bytes += request.lane_bytes[lane];
  ++traffic.requests;
}

}  // namespace ddpm::simt
