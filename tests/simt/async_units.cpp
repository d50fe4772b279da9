// SPDX-License-Identifier: MIT
#include "async_units.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "block.hpp"

namespace ddpm::simt {

template <class Work>
bool AsyncUnits::Groups<Work>::is_empty() const {
  return open.empty() &&
         std::all_of(in_flight.begin(), in_flight.end(), [](const auto& group) { return group.empty(); });
}

AsyncUnits::AsyncUnits(Block& block, int threads)
    : block_(block),
      copies_(static_cast<std::size_t>(threads)),
      products_(static_cast<std::size_t>(threads)) {}

void AsyncUnits::report(const std::string& diagnosis, Site at) const {
  if (!diagnosis.empty()) fail(diagnosis, at);
}

// cp.async

void AsyncUnits::land(const CopyAsync& copy) {
  const auto source_bytes = static_cast<std::size_t>(copy.source_bytes);
  if (source_bytes != 0) std::memcpy(copy.to, copy.from, source_bytes);
  std::memset(static_cast<std::byte*>(copy.to) + source_bytes, 0,
              static_cast<std::size_t>(copy.bytes) - source_bytes);
}

void AsyncUnits::copy(const CopyAsync& copy, Site at) {
  const auto bytes = static_cast<std::size_t>(copy.bytes);
  if (copy.source_bytes < 0 || copy.source_bytes > copy.bytes)
    fail("cp.async: source size " + std::to_string(copy.source_bytes) + " is not within 0 to " +
             std::to_string(copy.bytes),
         at);
  for (const void* address : {static_cast<const void*>(copy.to), copy.from})
    if (reinterpret_cast<std::uintptr_t>(address) % bytes != 0)
      fail("cp.async: an address is not aligned to " + std::to_string(bytes) + " bytes", at);
  const std::size_t offset = block_.shared_offset(copy.to, bytes, "cp.async", at);
  const CodeAddress from(at);
  if (copy.source_bytes != 0) {
    const Access source{copy.from, static_cast<std::size_t>(copy.source_bytes), AccessKind::read, "cp.async",
                        from};
    Executor::instance().note_device_access(source, at);
  }
  const Access target{copy.to, bytes, AccessKind::write, "cp.async", from};
  block_.counters().record(block_.thread(), Space::shared, target);
  if (block_.races()) report(block_.races()->start_copy(block_.thread(), offset, target), at);
  const bool lands = block_.lands_now();
  if (lands) land(copy);
  copies_[static_cast<std::size_t>(block_.thread())].open.push_back({copy, lands});
}

void AsyncUnits::commit_copies() { copies_[static_cast<std::size_t>(block_.thread())].commit(); }

void AsyncUnits::wait_for_copies(int groups_in_flight) {
  auto& groups = copies_[static_cast<std::size_t>(block_.thread())].in_flight;
  for (; static_cast<int>(groups.size()) > groups_in_flight; groups.pop_front())
    for (const Copy& copy : groups.front()) {
      if (!copy.has_landed) land(copy.what);
      const auto* to = static_cast<const std::byte*>(copy.what.to);
      const auto offset = static_cast<std::size_t>(to - block_.shared());
      if (block_.races())
        block_.races()->finish_copy(block_.thread(), offset, static_cast<std::size_t>(copy.what.bytes));
    }
}

void AsyncUnits::check_nothing_in_flight(int thread) const {
  const auto index = static_cast<std::size_t>(thread);
  if (!copies_[index].is_empty())
    block_.fail("a thread returned while its cp.async were in flight", CodeAddress());
  if (!products_[index].is_empty())
    block_.fail("a thread returned while its wgmma were in flight", CodeAddress());
}

// mbarrier

std::size_t AsyncUnits::offset_of(std::uint64_t* barrier, Site at) const {
  const std::size_t offset = block_.shared_offset(barrier, sizeof *barrier, "mbarrier", at);
  if (offset % sizeof *barrier != 0) fail("mbarrier: the address is not aligned to 8 bytes", at);
  return offset;
}

AsyncUnits::Barrier& AsyncUnits::find(std::uint64_t* barrier, Site at) {
  const auto found = barriers_.find(offset_of(barrier, at));
  if (found == barriers_.end()) fail("mbarrier: it has not been initialised", at);
  // Initialisation is a write, so that its use by other threads without a barrier in between is found.
  Executor::instance().note(
      {barrier, sizeof *barrier, AccessKind::read, "mbarrier operation", CodeAddress(at)});
  return found->second;
}

void AsyncUnits::init_barrier(std::uint64_t* barrier, unsigned arrivals, Site at) {
  const std::size_t offset = offset_of(barrier, at);
  if (arrivals == 0) fail("mbarrier: it expects no arrivals", at);
  Executor::instance().note({barrier, sizeof *barrier, AccessKind::write, "mbarrier.init", CodeAddress(at)});
  const std::size_t number = barriers_.size();
  Barrier fresh;
  fresh.expected = fresh.pending = arrivals;
  fresh.number = barriers_.contains(offset) ? barriers_[offset].number : number;
  barriers_[offset] = std::move(fresh);
}

void AsyncUnits::expect_bytes(std::uint64_t* barrier, unsigned bytes, Site at) {
  find(barrier, at).bytes += bytes;
}

void AsyncUnits::arrive(std::uint64_t* barrier, Site at) {
  Barrier& state = find(barrier, at);
  if (state.pending == 0)
    fail("mbarrier: more than " + std::to_string(state.expected) + " arrivals in one phase", at);
  if (block_.races()) block_.races()->release_to(block_.thread(), state.arriving);
  --state.pending;
  end_phase_if_complete(state);
}

void AsyncUnits::end_phase_if_complete(Barrier& barrier) {
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  if (block_.races()) block_.races()->release_bulk_to(barrier.number, barrier.arriving);
  barrier.published = std::exchange(barrier.arriving, {});
  barrier.parity ^= 1u;
  barrier.pending = barrier.expected;
  for (const int thread : std::exchange(barrier.waiting, {})) block_.wake(thread);
}

void AsyncUnits::wait_for_barrier(std::uint64_t* barrier, unsigned parity, Site at) {
  Barrier& state = find(barrier, at);
  while (state.parity == (parity & 1u)) {
    state.waiting.push_back(block_.thread());
    block_.wait("mbarrier.try_wait", at);
  }
  if (block_.races()) block_.races()->acquire_from(block_.thread(), state.published);
}

// Bulk copies

void AsyncUnits::bulk_copy(std::vector<BulkPiece> pieces, std::uint64_t* barrier, Site at) {
  find(barrier, at);
  ++block_.counters().totals.bulk_copies;
  BulkCopy copy{std::move(pieces), offset_of(barrier, at), 0, at};
  for (const BulkPiece& piece : copy.pieces) {
    void* to = shared_address(piece.to, piece.bytes, at);
    const std::size_t offset = block_.shared_offset(to, piece.bytes, "bulk copy", at);
    if (piece.from) {
      const Access source{piece.from, piece.bytes, AccessKind::read, "bulk copy", CodeAddress(at)};
      Executor::instance().note_device_access(source, at);
    }
    const Access target{to, piece.bytes, AccessKind::write, "bulk copy", CodeAddress(at)};
    if (block_.races()) report(block_.races()->start_bulk_copy(block_.thread(), offset, target), at);
    copy.bytes += piece.bytes;
  }
  if (block_.lands_now())
    land(copy);
  else
    bulk_copies_.push_back(std::move(copy));
}

void AsyncUnits::land(const BulkCopy& copy) {
  Barrier& barrier = barriers_.at(copy.barrier_offset);
  for (const BulkPiece& piece : copy.pieces) {
    const std::size_t offset = piece.to - shared_start;
    if (piece.from)
      std::memcpy(block_.shared() + offset, piece.from, piece.bytes);
    else
      std::memset(block_.shared() + offset, 0, piece.bytes);
    if (block_.races()) block_.races()->finish_bulk_copy(barrier.number, offset, piece.bytes);
  }
  barrier.bytes -= copy.bytes;
  end_phase_if_complete(barrier);
}

bool AsyncUnits::land_bulk_copy() {
  if (bulk_copies_.empty()) return false;
  const BulkCopy copy = std::move(bulk_copies_.front());
  bulk_copies_.pop_front();
  land(copy);
  return true;
}

// wgmma

bool AsyncUnits::has_product_on(int thread, const float* registers) const {
  const auto is_on = [&](const Product& product) {
    return !product.is_finished && product.what.registers.data() == registers;
  };
  const Groups<Product>& groups = products_[static_cast<std::size_t>(thread)];
  return std::any_of(groups.open.begin(), groups.open.end(), is_on) ||
         std::any_of(groups.in_flight.begin(), groups.in_flight.end(),
                     [&](const auto& group) { return std::any_of(group.begin(), group.end(), is_on); });
}

void AsyncUnits::multiply(MatrixProduct what, Site at) {
  const int thread = what.thread;
  if (block_.races())
    for (const SharedRange& range : what.reads) {
      const void* address = shared_address(range.offset, range.bytes, at);
      const std::size_t offset = block_.shared_offset(address, range.bytes, "wgmma", at);
      const Access access{address, range.bytes, AccessKind::read, "wgmma", CodeAddress(at)};
      report(block_.races()->start_matrix_read(thread, offset, access), at);
    }
  Product product{std::move(what), {}, false};
  if (!has_product_on(thread, product.what.registers.data())) {
    const auto registers = product.what.registers;
    product.registers.assign(registers.begin(), registers.end());
    if (block_.lands_now()) {
      product.what.finish();
      product.is_finished = true;
    } else {
      std::fill(registers.begin(), registers.end(), std::numeric_limits<float>::quiet_NaN());
    }
  }
  products_[static_cast<std::size_t>(thread)].open.push_back(std::move(product));
}

void AsyncUnits::commit_products() { products_[static_cast<std::size_t>(block_.thread())].commit(); }

void AsyncUnits::finish(Product& product) {
  if (!product.is_finished) {
    std::copy(product.registers.begin(), product.registers.end(), product.what.registers.begin());
    product.what.finish();
  }
  if (!block_.races()) return;
  for (const SharedRange& range : product.what.reads)
    block_.races()->finish_matrix_read(product.what.thread, range.offset - shared_start, range.bytes);
}

void AsyncUnits::wait_for_products(int groups_in_flight) {
  auto& groups = products_[static_cast<std::size_t>(block_.thread())].in_flight;
  for (; static_cast<int>(groups.size()) > groups_in_flight; groups.pop_front())
    for (Product& product : groups.front()) finish(product);
}

}  // namespace ddpm::simt
