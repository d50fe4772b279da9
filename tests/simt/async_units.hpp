// SPDX-License-Identifier: MIT
// AsyncUnits: what runs beside the threads of a block: cp.async, bulk copies with their mbarriers, the matrix
// unit.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include <ddpm/kernels/arch/executor_interface.hpp>

#include "shared_races.hpp"

namespace ddpm::simt {

class Block;

class AsyncUnits {
 public:
  AsyncUnits(Block& block, int threads);

  void copy(const CopyAsync& copy, Site at);
  void commit_copies();
  void wait_for_copies(int groups_in_flight);

  void init_barrier(std::uint64_t* barrier, unsigned arrivals, Site at);
  void expect_bytes(std::uint64_t* barrier, unsigned bytes, Site at);
  void arrive(std::uint64_t* barrier, Site at);
  void wait_for_barrier(std::uint64_t* barrier, unsigned parity, Site at);

  void bulk_copy(std::vector<BulkPiece> pieces, std::uint64_t* barrier, Site at);
  // Lands the oldest bulk copy; false if there is none. The scheduler asks when no thread can run.
  bool land_bulk_copy();

  void multiply(MatrixProduct product, Site at);
  void commit_products();
  void wait_for_products(int groups_in_flight);

  // Fails if a thread that returns has left work in flight.
  void check_nothing_in_flight(int thread) const;

 private:
  struct Copy {
    CopyAsync what;
    bool has_landed;
  };
  struct Product {
    MatrixProduct what;
    std::vector<float> registers;  // as they were before; empty if an older product on them is in flight
    bool is_finished;
  };
  // Work of a thread: what it has issued since its last commit, and the groups it has not waited for.
  template <class Work>
  struct Groups {
    std::vector<Work> open;
    std::deque<std::vector<Work>> in_flight;

    void commit() { in_flight.push_back(std::exchange(open, {})); }
    bool is_empty() const;
  };
  struct Barrier {
    unsigned expected = 0;
    unsigned pending = 0;
    std::int64_t bytes = 0;  // announced and not yet come, or come and not yet announced
    unsigned parity = 0;     // of the running phase
    std::size_t number = 0;  // among the barriers of the block
    std::vector<int> waiting;
    SharedRaces::Knowledge arriving;
    SharedRaces::Knowledge published;
  };
  struct BulkCopy {
    std::vector<BulkPiece> pieces;
    std::size_t barrier_offset;
    std::int64_t bytes;
    Site at;
  };

  static void land(const CopyAsync& copy);
  void land(const BulkCopy& copy);
  std::size_t offset_of(std::uint64_t* barrier, Site at) const;
  Barrier& find(std::uint64_t* barrier, Site at);
  void end_phase_if_complete(Barrier& barrier);
  void report(const std::string& diagnosis, Site at) const;
  bool has_product_on(int thread, const float* registers) const;
  void finish(Product& product);

  Block& block_;
  std::vector<Groups<Copy>> copies_;         // [thread]
  std::vector<Groups<Product>> products_;    // [thread]
  std::map<std::size_t, Barrier> barriers_;  // by offset in shared memory
  std::deque<BulkCopy> bulk_copies_;
};

}  // namespace ddpm::simt
