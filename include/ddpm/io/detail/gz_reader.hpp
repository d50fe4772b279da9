// SPDX-License-Identifier: MIT
// GzReader: a file read from front to back, plain or gzip-compressed.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/file.hpp>

namespace ddpm::io::detail {

class GzReader {
 public:
  explicit GzReader(const std::string& path) : path_(path) {
    RegularFile file = open_regular_file(path);
    file_.reset(::gzdopen(file.descriptor.number(), "rb"));
    if (file_ == nullptr) fail(path, "too little memory to open it", "a readable file");
    file.descriptor.release();  // closed by zlib from now on
  }

  // Up to `size` bytes; fewer only at the end of the file.
  std::size_t read(std::uint8_t* out, std::size_t size) {
    std::size_t done = 0;
    while (done < size) {
      const auto wanted = static_cast<unsigned>(std::min<std::size_t>(size - done, 1u << 24));
      const int count = ::gzread(file_.get(), out + done, wanted);
      if (count < 0) fail_as_zlib();
      if (count == 0) break;
      done += static_cast<std::size_t>(count);
    }
    if (done < size) {  // an end within compressed data is an error as well
      int code = Z_OK;
      static_cast<void>(::gzerror(file_.get(), &code));
      if (code != Z_OK) fail_as_zlib();
    }
    return done;
  }

  // `size` bytes. Memory follows the data, not the claim: a file that lies about its size costs nothing.
  std::vector<std::uint8_t> read_exactly(std::size_t size, const std::string& what) {
    constexpr std::size_t first = 1u << 16;
    std::vector<std::uint8_t> out;
    while (out.size() < size) {
      const std::size_t before = out.size();
      const std::size_t wanted = std::min(std::max(first, before), size - before);
      out.resize(before + wanted);
      const std::size_t count = read(out.data() + before, wanted);
      if (count < wanted)
        fail(path_, message("the end after ", before + count, " bytes of ", what), message(size, " bytes"));
    }
    return out;
  }

  void expect_end(const std::string& what) {
    std::uint8_t byte = 0;
    if (read(&byte, 1) != 0) fail(path_, message("more data after ", what), "the end of the file");
  }

  const std::string& path() const { return path_; }

 private:
  struct Close {
    void operator()(gzFile file) const { ::gzclose(file); }
  };

  [[noreturn]] void fail_as_zlib() const {
    int code = Z_OK;
    const char* text = ::gzerror(file_.get(), &code);
    fail(path_, message("an error (", code == Z_ERRNO ? system_error_text(errno) : std::string(text), ")"),
         "a complete file, plain or compressed by gzip");
  }

  std::string path_;
  std::unique_ptr<gzFile_s, Close> file_;
};

}  // namespace ddpm::io::detail
