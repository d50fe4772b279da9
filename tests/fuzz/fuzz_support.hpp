// SPDX-License-Identifier: MIT
// Bytes as a file in memory, for readers that want a path.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace fuzz {

inline std::string_view text(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    if (::write(descriptor_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(descriptor_); }

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

// Ends the process unless `ok`, which no input may make false.
inline void require(bool ok) {
  if (!ok) std::abort();
}

// Every message is one short line of printable text.
inline void require_sentence(std::string_view message) {
  require(message.size() < 1000);
  for (const char c : message) require(c >= ' ' && c <= '~');
}

// Every tensor can be read to its last element.
template <class Set>
void read_all(const Set& set) {
  for (const std::string& name : set.names()) {
    const auto& tensor = set.tensor(name);
    require(set.template as<float>(name).size() == static_cast<std::size_t>(tensor.numel()));
  }
}

}  // namespace fuzz
