// SPDX-License-Identifier: MIT
// ByteReader: little-endian numbers and runs of bytes, front to back, never past the end.
#pragma once

#include <bit>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <ddpm/io/detail/file.hpp>

namespace ddpm::io::detail {

class ByteReader {
 public:
  // `what` is being read; it and the path are for messages.
  ByteReader(std::span<const std::byte> bytes, const std::string& path, std::string what)
      : rest_(bytes), path_(&path), what_(std::move(what)) {}

  std::span<const std::byte> take(std::size_t size) {
    if (size > rest_.size())
      fail(*path_, message("the end within ", what_), message(size - rest_.size(), " more bytes"));
    const std::span<const std::byte> taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }
  template <class T>
  T number() {
    static_assert(std::endian::native == std::endian::little);
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string_view text(std::size_t size) {
    const std::span<const std::byte> bytes = take(size);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  // Up to the next newline, which is taken as well.
  std::string_view line() {
    const std::string_view all(reinterpret_cast<const char*>(rest_.data()), rest_.size());
    const std::size_t end = all.find('\n');
    if (end == std::string_view::npos) fail(*path_, message("the end within ", what_), "a newline");
    return text(end + 1).substr(0, end);
  }

 private:
  std::span<const std::byte> rest_;
  const std::string* path_;
  std::string what_;
};

}  // namespace ddpm::io::detail
