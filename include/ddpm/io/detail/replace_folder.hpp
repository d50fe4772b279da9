// SPDX-License-Identifier: MIT
// replace_folder: a folder that appears as a whole or not at all.
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>

#include <ddpm/io/detail/file.hpp>

namespace ddpm::io::detail {

inline constexpr const char* unfinished = ".tmp";  // the end of the name of a folder under way

inline void flush_folder(const std::filesystem::path& folder) {
  const FileDescriptor directory{::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC)};
  if (directory.number() >= 0) static_cast<void>(::fsync(directory.number()));
}

inline void make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail(folder.string(), error.message(), "a folder that can be created");
}

// fill(TEMPORARY) writes files, each of which it flushes; then TEMPORARY becomes `target`, in the place of what was
// there. Where fill throws, or the process ends at any moment, `target` is what it was.
template <class Fill>
void replace_folder(const std::filesystem::path& target, Fill&& fill) {
  const std::filesystem::path temporary = target.string() + unfinished;
  std::error_code error;
  std::filesystem::remove_all(temporary, error);
  try {
    make_folder(temporary);
    fill(temporary);
    flush_folder(temporary);
    // The old and the new change places in one step; what then is called TEMPORARY is the old.
    const bool is_new = !std::filesystem::exists(target, error);
    const unsigned how = is_new ? 0 : RENAME_EXCHANGE;
    if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, target.c_str(), how) != 0)
      fail(target.string(), message("an error in renaming (", system_error_text(errno), ")"),
           "a folder that can be replaced");
  } catch (...) {
    std::filesystem::remove_all(temporary, error);
    throw;
  }
  flush_folder(target.parent_path());
  std::filesystem::remove_all(temporary, error);
}

}  // namespace ddpm::io::detail
