// SPDX-License-Identifier: MIT
// AppendFile: a file that grows record by record, each written whole.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <string_view>

#include <ddpm/io/detail/file.hpp>

namespace ddpm::io::detail {

class AppendFile {
 public:
  // The file is made where there is none.
  explicit AppendFile(const std::filesystem::path& path)
      : path_(path.string()), file_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
    if (file_.number() < 0) refuse();
  }

  void write(std::string_view record) {
    while (!record.empty()) {
      const ssize_t count = ::write(file_.number(), record.data(), record.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) refuse();
      record.remove_prefix(static_cast<std::size_t>(count));
    }
  }

 private:
  [[noreturn]] void refuse() const {
    fail(path_, message("an error (", system_error_text(errno), ")"), "a file that can be written");
  }

  std::string path_;
  FileDescriptor file_;
};

}  // namespace ddpm::io::detail
