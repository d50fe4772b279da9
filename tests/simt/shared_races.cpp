// SPDX-License-Identifier: MIT
#include "shared_races.hpp"

#include <algorithm>

namespace ddpm::simt {

namespace {

void raise_to(std::vector<std::uint32_t>& clock, const std::vector<std::uint32_t>& other) {
  if (clock.size() < other.size()) clock.resize(other.size());
  for (std::size_t i = 0; i < other.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

std::string name_of(int thread) { return "thread " + std::to_string(thread); }

}  // namespace

SharedRaces::SharedRaces(int threads, std::size_t bytes)
    : threads_(threads),
      clocks_(static_cast<std::size_t>(threads) * static_cast<std::size_t>(threads)),
      has_joined_(static_cast<std::size_t>(threads)),
      bulk_seen_(static_cast<std::size_t>(threads)),
      cells_((bytes + granule - 1) / granule) {
  for (int thread = 0; thread < threads; ++thread) clock(thread, thread) = 1;
}

template <class Act>
std::string SharedRaces::for_each_cell(std::size_t offset, std::size_t bytes, Act act) {
  for (std::size_t index = offset / granule; index <= (offset + bytes - 1) / granule; ++index)
    if (std::string diagnosis = act(index); !diagnosis.empty()) return diagnosis;
  return {};
}

std::string SharedRaces::access(int thread, std::size_t offset, const Access& access) {
  return for_each_cell(offset, access.bytes, [&](std::size_t index) -> std::string {
    Cell& cell = cells_[index];
    if (access.kind == AccessKind::read) {
      if (auto diagnosis = check_read(thread, index, access); !diagnosis.empty()) return diagnosis;
      note_read(cell, now(thread, access.from));
      return {};
    }
    if (access.kind == AccessKind::atomic && !cell.is_written && cell.flight == Flight::none)
      return report("uninitialised shared memory", index, access, " finds bytes that nobody has written");
    if (auto diagnosis = check_write(thread, index, access); !diagnosis.empty()) return diagnosis;
    note_write(cell, now(thread, access.from));
    cell.is_atomic = access.kind == AccessKind::atomic;
    return {};
  });
}

std::string SharedRaces::start_copy(int thread, std::size_t offset, const Access& access) {
  return for_each_cell(offset, access.bytes, [&](std::size_t index) -> std::string {
    if (auto diagnosis = check_write(thread, index, access); !diagnosis.empty()) return diagnosis;
    note_write(cells_[index], now(thread, access.from));
    cells_[index].flight = Flight::copy;
    return {};
  });
}

void SharedRaces::finish_copy(int thread, std::size_t offset, std::size_t bytes) {
  for_each_cell(offset, bytes, [&](std::size_t index) -> std::string {
    Cell& cell = cells_[index];
    cell.flight = Flight::none;
    note_write(cell, now(thread, cell.write.from));
    return {};
  });
}

std::string SharedRaces::start_bulk_copy(int thread, std::size_t offset, const Access& access) {
  return for_each_cell(offset, access.bytes, [&](std::size_t index) -> std::string {
    if (auto diagnosis = check_write(thread, index, access); !diagnosis.empty()) return diagnosis;
    note_write(cells_[index], now(thread, access.from));
    cells_[index].flight = Flight::bulk;
    return {};
  });
}

void SharedRaces::finish_bulk_copy(std::size_t barrier, std::size_t offset, std::size_t bytes) {
  if (bulk_time_.size() <= barrier) bulk_time_.resize(barrier + 1);
  ++bulk_time_[barrier];
  for_each_cell(offset, bytes, [&](std::size_t index) -> std::string {
    Cell& cell = cells_[index];
    cell.flight = Flight::none;
    const auto who = static_cast<std::int16_t>(bulk_unit - static_cast<int>(barrier));
    note_write(cell, {who, generation_, bulk_time_[barrier], cell.write.from});
    return {};
  });
}

std::string SharedRaces::start_matrix_read(int thread, std::size_t offset, const Access& access) {
  return for_each_cell(offset, access.bytes, [&](std::size_t index) -> std::string {
    if (auto diagnosis = check_read(thread, index, access); !diagnosis.empty()) return diagnosis;
    note_read(cells_[index], now(thread, access.from));
    ++cells_[index].matrix_reads;
    return {};
  });
}

void SharedRaces::finish_matrix_read(int thread, std::size_t offset, std::size_t bytes) {
  for_each_cell(offset, bytes, [&](std::size_t index) -> std::string {
    --cells_[index].matrix_reads;
    note_read(cells_[index], now(thread, cells_[index].read.from));
    return {};
  });
}

void SharedRaces::block_barrier() {
  ++generation_;
  std::vector<std::uint32_t> seen;
  for (const auto& clock : bulk_seen_) raise_to(seen, clock);
  for (int thread = 0; thread < threads_; ++thread) {
    forget_generation(thread);
    bulk_seen_[static_cast<std::size_t>(thread)] = seen;
  }
}

void SharedRaces::forget_generation(int thread) {
  const auto at = static_cast<std::size_t>(thread);
  if (!has_joined_[at]) return;
  for (int other = 0; other < threads_; ++other) clock(thread, other) = 0;
  clock(thread, thread) = 1;
  has_joined_[at] = false;
}

void SharedRaces::warp_barrier(std::span<const int> threads) {
  Knowledge all;
  for (const int thread : threads) release_to(thread, all);
  for (const int thread : threads) acquire_from(thread, all);
}

void SharedRaces::release_to(int thread, Knowledge& knowledge) {
  const auto at = static_cast<std::size_t>(thread);
  if (knowledge.generation != generation_) {
    knowledge.generation = generation_;
    knowledge.threads.assign(static_cast<std::size_t>(threads_), 0);
  }
  for (int other = 0; other < threads_; ++other) {
    std::uint32_t& known = knowledge.threads[static_cast<std::size_t>(other)];
    known = std::max(known, clock(thread, other));
  }
  raise_to(knowledge.bulk, bulk_seen_[at]);
  ++clock(thread, thread);  // what follows is not covered
  has_joined_[at] = true;
}

void SharedRaces::release_bulk_to(std::size_t barrier, Knowledge& knowledge) {
  if (bulk_time_.size() <= barrier) return;
  if (knowledge.bulk.size() <= barrier) knowledge.bulk.resize(barrier + 1);
  knowledge.bulk[barrier] = bulk_time_[barrier];
}

void SharedRaces::acquire_from(int thread, const Knowledge& knowledge) {
  raise_to(bulk_seen_[static_cast<std::size_t>(thread)], knowledge.bulk);
  if (knowledge.generation != generation_) return;  // a barrier since then has told everyone
  for (int other = 0; other < threads_; ++other)
    clock(thread, other) = std::max(clock(thread, other), knowledge.threads[static_cast<std::size_t>(other)]);
  has_joined_[static_cast<std::size_t>(thread)] = true;
}

SharedRaces::Moment SharedRaces::now(int thread, CodeAddress from) const {
  return {static_cast<std::int16_t>(thread), generation_, clock(thread, thread), from};
}

bool SharedRaces::is_ordered(const Moment& before, int thread) const {
  if (before.who == nobody || before.who == thread) return true;
  if (before.who <= bulk_unit) {
    const auto barrier = static_cast<std::size_t>(bulk_unit - before.who);
    const auto& seen = bulk_seen_[static_cast<std::size_t>(thread)];
    return barrier < seen.size() && seen[barrier] >= before.time;
  }
  return before.generation < generation_ || clock(thread, before.who) >= before.time;
}

std::string SharedRaces::check_read(int thread, std::size_t index, const Access& access) {
  const Cell& cell = cells_[index];
  if (cell.flight != Flight::none)
    return report("race in shared memory", index, access,
                  std::string(" meets bytes of a ") +
                      (cell.flight == Flight::copy ? "cp.async" : "bulk copy") +
                      " that nobody has waited for, issued at " + cell.write.from.text());
  if (!cell.is_written)
    return report("uninitialised shared memory", index, access, " finds bytes that nobody has written");
  if (!is_ordered(cell.write, thread))
    return report(
        "race in shared memory", index, access,
        cell.write.who <= bulk_unit
            ? " without a wait for the mbarrier of the bulk copy issued at " + cell.write.from.text()
            : " is not ordered after the write by " + name_of(cell.write.who) + " at " +
                  cell.write.from.text());
  return {};
}

std::string SharedRaces::check_write(int thread, std::size_t index, const Access& access) {
  const Cell& cell = cells_[index];
  if (cell.flight != Flight::none)
    return report("race in shared memory", index, access,
                  " meets bytes of a copy that nobody has waited for, issued at " + cell.write.from.text());
  if (cell.matrix_reads > 0)
    return report(
        "race in shared memory", index, access,
        " overwrites what a wgmma that nobody has waited for reads, issued at " + cell.read.from.text());
  const bool are_both_atomic = cell.is_atomic && access.kind == AccessKind::atomic;
  if (!are_both_atomic && cell.is_written && !is_ordered(cell.write, thread))
    return report(
        "race in shared memory", index, access,
        " is not ordered after the write by " + name_of(cell.write.who) + " at " + cell.write.from.text());
  return find_unordered_reader(thread, cell, index, access);
}

std::string SharedRaces::find_unordered_reader(int thread, const Cell& cell, std::size_t index,
                                               const Access& access) const {
  const auto complain = [&](const Moment& read) {
    return report("race in shared memory", index, access,
                  " is not ordered after the read by " + name_of(read.who) + " at " + read.from.text());
  };
  if (cell.readers >= 0) {
    for (const Moment& read : reader_sets_[static_cast<std::size_t>(cell.readers)])
      if (!is_ordered(read, thread)) return complain(read);
  } else if (!is_ordered(cell.read, thread)) {
    return complain(cell.read);
  }
  return {};
}

void SharedRaces::note_write(Cell& cell, const Moment& write) {
  cell.write = write;
  cell.is_written = true;
  cell.is_atomic = false;
  cell.read = {};
  if (cell.readers >= 0) reader_sets_[static_cast<std::size_t>(cell.readers)].clear();
}

void SharedRaces::note_read(Cell& cell, const Moment& read) {
  if (cell.readers < 0) {
    if (is_ordered(cell.read, read.who)) {
      cell.read = read;
      return;
    }
    cell.readers = static_cast<int>(reader_sets_.size());
    reader_sets_.emplace_back().resize(static_cast<std::size_t>(threads_));
    reader_sets_.back()[static_cast<std::size_t>(cell.read.who)] = cell.read;
  }
  auto& readers = reader_sets_[static_cast<std::size_t>(cell.readers)];
  if (readers.empty()) readers.resize(static_cast<std::size_t>(threads_));
  readers[static_cast<std::size_t>(read.who)] = read;
}

std::string SharedRaces::report(const char* kind, std::size_t index, const Access& access,
                                const std::string& rest) const {
  return std::string(kind) + ": " + access.text() + " at offset " + std::to_string(index * granule) + rest;
}

}  // namespace ddpm::simt
