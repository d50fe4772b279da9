// SPDX-License-Identifier: MIT
// SharedRaces: finds accesses to shared memory that no synchronisation orders, in the run at hand and
// whatever order the threads ran in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "access.hpp"

namespace ddpm::simt {

// Vector clocks. A __syncthreads orders everything before it with everything after it, so clocks count only
// since the last one (the generation); within it, __syncwarp and mbarriers join the clocks of the threads
// they order. Shuffles and votes order no memory, as on the device.
//
// Copies by cp.async are in flight until their thread waits for them, and are then as writes of that thread
// at that moment. Bulk copies are in flight until they land, and are then visible to those who wait for their
// mbarrier.
//
// The resolution is 2 bytes, so neighbouring single bytes are taken for one. Of several atomics to one place
// only the last is compared with a later plain access.
class SharedRaces {
 public:
  // What a thread that waits for a phase of an mbarrier comes to know.
  struct Knowledge {
    std::uint32_t generation = 0;
    std::vector<std::uint32_t> threads;
    std::vector<std::uint32_t> bulk;
  };

  SharedRaces(int threads, std::size_t bytes);

  // Each returns the diagnosis, empty if there is nothing to report. `offset` counts from the block's first
  // shared byte.
  std::string access(int thread, std::size_t offset, const Access& access);
  std::string start_copy(int thread, std::size_t offset, const Access& access);
  void finish_copy(int thread, std::size_t offset, std::size_t bytes);
  std::string start_bulk_copy(int thread, std::size_t offset, const Access& access);
  void finish_bulk_copy(std::size_t barrier, std::size_t offset, std::size_t bytes);
  // Reads by the matrix unit: in flight until finish, writes to the bytes are reported.
  std::string start_matrix_read(int thread, std::size_t offset, const Access& access);
  void finish_matrix_read(int thread, std::size_t offset, std::size_t bytes);

  void block_barrier();
  void warp_barrier(std::span<const int> threads);
  void release_to(int thread, Knowledge& knowledge);
  void release_bulk_to(std::size_t barrier, Knowledge& knowledge);
  void acquire_from(int thread, const Knowledge& knowledge);

 private:
  static constexpr std::size_t granule = 2;
  static constexpr std::int16_t nobody = -1, bulk_unit = -2;
  enum class Flight : std::uint8_t { none, copy, bulk };

  // A moment in the life of a thread, or of the copies that report to a barrier (`who` = bulk_unit -
  // barrier).
  struct Moment {
    std::int16_t who = nobody;
    std::uint32_t generation = 0;
    std::uint32_t time = 0;
    CodeAddress from;
  };
  struct Cell {
    Moment write;
    Moment read;       // the last, if all earlier ones are ordered before it
    int readers = -1;  // else: index into reader_sets_
    std::int16_t matrix_reads = 0;
    Flight flight = Flight::none;
    bool is_written = false;
    bool is_atomic = false;
  };

  Moment now(int thread, CodeAddress from) const;
  bool is_ordered(const Moment& before, int thread) const;
  std::string check_write(int thread, std::size_t index, const Access& access);
  std::string check_read(int thread, std::size_t index, const Access& access);
  std::string find_unordered_reader(int thread, const Cell& cell, std::size_t index,
                                    const Access& access) const;
  void note_write(Cell& cell, const Moment& write);
  void note_read(Cell& cell, const Moment& read);
  std::string report(const char* kind, std::size_t index, const Access& access,
                     const std::string& rest) const;
  void forget_generation(int thread);
  std::uint32_t& clock(int thread, int of) {
    return clocks_[static_cast<std::size_t>(thread * threads_ + of)];
  }
  std::uint32_t clock(int thread, int of) const {
    return clocks_[static_cast<std::size_t>(thread * threads_ + of)];
  }
  template <class Act>
  std::string for_each_cell(std::size_t offset, std::size_t bytes, Act act);

  int threads_;
  std::uint32_t generation_ = 1;
  std::vector<std::uint32_t> clocks_;                  // [thread][of thread]
  std::vector<bool> has_joined_;                       // threads whose clock holds more than their own time
  std::vector<std::uint32_t> bulk_time_;               // [barrier]
  std::vector<std::vector<std::uint32_t>> bulk_seen_;  // [thread][barrier]
  std::vector<Cell> cells_;
  std::vector<std::vector<Moment>> reader_sets_;
};

}  // namespace ddpm::simt
