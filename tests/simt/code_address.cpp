// SPDX-License-Identifier: MIT
#include "code_address.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <bit>
#include <cstdio>
#include <string_view>

namespace ddpm::simt {

namespace {

static_assert(sizeof(std::source_location) == sizeof(std::uintptr_t),
              "a source location is one pointer in libstdc++");
constexpr std::uintptr_t is_location = std::uintptr_t{1} << 56;  // beyond any address

std::string file_name(std::string_view path) { return std::string(path.substr(path.rfind('/') + 1)); }

// Asks addr2line (binutils) for the function and the line of an address in this process.
struct Symbol {
  std::string function;
  std::string line;
};

Symbol look_up(const void* address) {
  Dl_info object{};
  if (dladdr(address, &object) == 0) return {"?", "?"};
  const bool is_relocated = static_cast<const ElfW(Ehdr)*>(object.dli_fbase)->e_type == ET_DYN;
  const std::uintptr_t base = is_relocated ? reinterpret_cast<std::uintptr_t>(object.dli_fbase) : 0;
  char command[4096];
  std::snprintf(command, sizeof command, "addr2line -C -f -s -e '%s' 0x%zx 2>/dev/null", object.dli_fname,
                reinterpret_cast<std::uintptr_t>(address) - base);
  std::string lines[2] = {"?", "?"};
  if (FILE* output = popen(command, "r")) {
    char line[4096];
    for (std::string& text : lines)
      if (std::fgets(line, sizeof line, output))
        text = std::string_view(line).substr(0, std::string_view(line).find('\n'));
    pclose(output);
  }
  return {lines[0], lines[1].substr(0, lines[1].find(" ("))};
}

}  // namespace

CodeAddress::CodeAddress(std::source_location at)
    : word_(at.line() == 0 ? 0 : std::bit_cast<std::uintptr_t>(at) | is_location) {}

std::string CodeAddress::text() const {
  if (word_ & is_location) return simt::text(std::bit_cast<std::source_location>(word_ & ~is_location));
  // A return address lies behind the call, which may be the last instruction of its line.
  return look_up(reinterpret_cast<const void*>(word_ - 1)).line;
}

std::string text(std::source_location at) {
  return at.line() == 0 ? std::string("an unknown place")
                        : file_name(at.file_name()) + ":" + std::to_string(at.line());
}

std::string function_name(const void* address) { return look_up(address).function; }

}  // namespace ddpm::simt
