// SPDX-License-Identifier: MIT
// GlobalRaces: finds bytes of global memory that one block writes and another block of the same launch
// touches. Nothing orders blocks, so this is an error in whatever order they ran, unless both accesses are
// atomic.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "access.hpp"

namespace ddpm::simt {

class GlobalRaces {
 public:
  void begin_launch() { pages_.clear(); }
  // Empty, or the diagnosis. `block` is the linear index of the block that makes the access.
  std::string access(std::uint32_t block, const Access& access);

 private:
  static constexpr std::uint32_t nobody = 0xffffffffu, several = 0xfffffffeu;
  static constexpr std::uintptr_t page_bytes = 4096;

  struct Party {
    std::uint32_t block = nobody;
    CodeAddress from;

    bool is_other_than(std::uint32_t own) const { return block != nobody && block != own; }
    void add(std::uint32_t own, CodeAddress place);
    std::string text() const;
  };
  struct Byte {
    Party writer;
    Party reader;
    bool is_atomic = false;
  };
  using Page = std::array<Byte, page_bytes>;

  std::string access_byte(Byte& byte, std::uint32_t block, const Access& access) const;
  Page& page(std::uintptr_t index);

  std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages_;
};

}  // namespace ddpm::simt
