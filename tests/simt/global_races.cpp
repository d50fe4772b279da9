// SPDX-License-Identifier: MIT
#include "global_races.hpp"

namespace ddpm::simt {

void GlobalRaces::Party::add(std::uint32_t own, CodeAddress place) {
  if (block == nobody) from = place;
  block = block == nobody || block == own ? own : several;
}

std::string GlobalRaces::Party::text() const {
  return (block == several ? std::string("several blocks") : "block " + std::to_string(block)) + " at " +
         from.text();
}

GlobalRaces::Page& GlobalRaces::page(std::uintptr_t index) {
  std::unique_ptr<Page>& page = pages_[index];
  if (!page) page = std::make_unique<Page>();
  return *page;
}

std::string GlobalRaces::access(std::uint32_t block, const Access& access) {
  const auto begin = reinterpret_cast<std::uintptr_t>(access.address);
  for (std::uintptr_t address = begin; address < begin + access.bytes; ++address) {
    Byte& byte = page(address / page_bytes)[address % page_bytes];
    if (std::string diagnosis = access_byte(byte, block, access); !diagnosis.empty()) return diagnosis;
  }
  return {};
}

std::string GlobalRaces::access_byte(Byte& byte, std::uint32_t block, const Access& access) const {
  const auto report = [&](const char* verb, const Party& other) {
    return "race between blocks in global memory: " + access.text() + " by block " + std::to_string(block) +
           ", and the bytes are " + verb + " by " + other.text();
  };
  const bool are_both_atomic = byte.is_atomic && access.kind == AccessKind::atomic;
  if (!are_both_atomic && byte.writer.is_other_than(block)) return report("written", byte.writer);
  if (access.kind == AccessKind::read) {
    byte.reader.add(block, access.from);
    return {};
  }
  if (byte.reader.is_other_than(block)) return report("read", byte.reader);
  byte.writer.add(block, access.from);
  byte.is_atomic = access.kind == AccessKind::atomic;
  return {};
}

}  // namespace ddpm::simt
