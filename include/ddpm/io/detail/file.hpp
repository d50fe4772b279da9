// SPDX-License-Identifier: MIT
// Files of the system: a read-only memory map, a whole text, and a writer that leaves the whole file or none.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <ddpm/core/error.hpp>

namespace ddpm::io::detail {

inline std::string system_error_text(int code) { return std::system_category().message(code); }

inline bool is_printable(char c) { return c >= ' ' && c <= '~'; }

// A string out of a file, fit for a message of one line: short, and printable on any terminal.
inline std::string in_quotes(std::string_view text) {
  constexpr std::size_t longest = 60;
  std::string out = "\"";
  for (const char c : text.substr(0, longest)) out += is_printable(c) ? c : '?';
  return out + (text.size() > longest ? "...\"" : "\"");
}

// Throws the one kind of sentence in which io/ reports what is wrong in a file.
template <class Found, class Expected>
[[noreturn]] void fail(const std::string& path, const Found& found, const Expected& expected) {
  throw IoError(message(path, ": found ", found, ", expected ", expected));
}

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int number) : number_(number) {}
  FileDescriptor(FileDescriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~FileDescriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int number() const { return number_; }
  int release() { return std::exchange(number_, -1); }

 private:
  int number_ = -1;
};

// An open regular file and its size.
struct RegularFile {
  FileDescriptor descriptor;
  std::size_t size = 0;
};

inline RegularFile open_regular_file(const std::string& path) {
  // Non-blocking, so that a pipe without a writer is refused and not waited for.
  FileDescriptor descriptor{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (descriptor.number() < 0)
    fail(path, message("an error (", system_error_text(errno), ")"), "a readable file");
  struct stat status {};
  if (::fstat(descriptor.number(), &status) != 0)
    fail(path, message("an error (", system_error_text(errno), ")"), "a readable file");
  if (!S_ISREG(status.st_mode)) fail(path, "a directory or a device", "a regular file");
  return {std::move(descriptor), static_cast<std::size_t>(status.st_size)};
}

// The bytes of a file without copying them. The file must not be shortened while it is mapped.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::string& path) {
    const RegularFile file = open_regular_file(path);
    if (file.size == 0) return;  // an empty map is an error to the system
    void* data = ::mmap(nullptr, file.size, PROT_READ, MAP_PRIVATE, file.descriptor.number(), 0);
    if (data == MAP_FAILED)
      fail(path, message("an error (", system_error_text(errno), ")"), "a file that can be mapped");
    data_ = data;
    size_ = file.size;
  }
  MappedFile(MappedFile&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MappedFile() {
    if (data_ != nullptr) ::munmap(data_, size_);
  }

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

// The contents of a file of at most `limit` bytes.
inline std::string read_text(const std::string& path, std::size_t limit) {
  const RegularFile file = open_regular_file(path);
  if (file.size > limit)
    fail(path, message("a file of ", file.size, " bytes"), message("at most ", limit, " bytes"));
  std::string text(file.size, '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = ::read(file.descriptor.number(), text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(path, message("an error (", system_error_text(errno), ")"), "a readable file");
    if (count == 0) fail(path, message("the end after ", done, " bytes"), message(file.size, " bytes"));
    done += static_cast<std::size_t>(count);
  }
  return text;
}

// Writes PATH.tmp and renames it to PATH in commit(): a reader sees the old file or the new one, also after a
// crash. Without commit() nothing remains. Of several files, flush() each before the first commit(). A PATH
// that is a device or a pipe is written directly.
class FileWriter {
 public:
  explicit FileWriter(const std::string& path) : path_(path), target_(path) {
    std::error_code error;
    const std::filesystem::file_status status = std::filesystem::status(path, error);
    is_direct_ = std::filesystem::exists(status) && !std::filesystem::is_regular_file(status);
    if (std::filesystem::is_regular_file(status)) {  // a link stays a link, the file behind it is replaced
      const std::filesystem::path real = std::filesystem::canonical(path, error);
      if (!error) target_ = real.string();
    }
    written_ = is_direct_ ? target_ : target_ + ".tmp";
    const int flags = O_WRONLY | O_CLOEXEC | (is_direct_ ? 0 : O_CREAT | O_TRUNC);
    file_ = FileDescriptor{::open(written_.c_str(), flags, 0666)};
    if (file_.number() < 0) fail_with_code("opening");
  }
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  ~FileWriter() {
    if (!is_direct_ && !is_committed_) ::unlink(written_.c_str());
  }

  void write(const void* data, std::size_t size) {
    const char* next = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t count = ::write(file_.number(), next, size);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail_with_code("writing");
      next += count;
      size -= static_cast<std::size_t>(count);
    }
  }
  void write(std::string_view text) { write(text.data(), text.size()); }

  const std::string& path() const { return path_; }

  // The last point at which a full disk can be noticed.
  void flush() {
    // Devices and pipes have nothing to flush and say so with EINVAL.
    if (::fsync(file_.number()) != 0 && !(is_direct_ && errno == EINVAL)) fail_with_code("flushing");
    if (::close(file_.release()) != 0) fail_with_code("closing");
  }

  void commit() {
    if (file_.number() >= 0) flush();
    if (is_direct_) return;
    if (::rename(written_.c_str(), target_.c_str()) != 0) fail_with_code("renaming");
    is_committed_ = true;
    // Makes the new name itself durable; a file system that cannot flush a directory has still got the file.
    const std::filesystem::path folder = std::filesystem::path(target_).parent_path();
    const FileDescriptor directory{::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC)};
    if (directory.number() >= 0) static_cast<void>(::fsync(directory.number()));
  }

 private:
  [[noreturn]] void fail_with_code(const char* action) const {
    throw IoError(message(path_, ": found an error in ", action, " ", written_, " (",
                          system_error_text(errno), "), expected a file that can be written"));
  }

  std::string path_;     // as the caller gave it
  std::string target_;   // with links resolved
  std::string written_;  // what is open
  FileDescriptor file_;
  bool is_direct_ = false;
  bool is_committed_ = false;
};

inline void write_file(const std::string& path, std::string_view contents) {
  FileWriter writer(path);
  writer.write(contents);
  writer.commit();
}

}  // namespace ddpm::io::detail
