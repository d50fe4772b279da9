// SPDX-License-Identifier: MIT
// Checkpoints: the folders step-00001000, ... of a run, the last few of them, and a link to the best.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/replace_folder.hpp>

namespace ddpm::io {

class Checkpoints {
 public:
  // Makes `folder`, and clears what a process that was killed has left unfinished. `keep` is how many stay.
  Checkpoints(std::filesystem::path folder, int keep) : folder_(std::move(folder)), keep_(keep) {
    check<ConfigError>(keep >= 1, "Checkpoints: ", keep, " checkpoints to keep, expected at least 1");
    detail::make_folder(folder_);
    for (const auto& entry : entries())
      if (entry.path().extension() == detail::unfinished) erase(entry.path());
  }

  // In ascending order.
  std::vector<std::int64_t> steps() const {
    std::vector<std::int64_t> steps;
    for (const auto& entry : entries())
      if (const auto step = step_of(entry.path().filename().string())) steps.push_back(*step);
    std::ranges::sort(steps);
    return steps;
  }

  std::filesystem::path path(std::int64_t step) const {
    char name[32];
    std::snprintf(name, sizeof name, "%s%08lld", prefix.data(), static_cast<long long>(step));
    return folder_ / name;
  }

  // fill(folder) writes the checkpoint. Then `best` is linked (0: none is), and old ones go; on an error all is as it
  // was.
  template <class Fill>
  void save(std::int64_t step, std::int64_t best, Fill&& fill) const {
    detail::replace_folder(path(step), fill);
    if (best > 0) link_best(best);
    const std::vector<std::int64_t> all = steps();
    for (std::size_t i = 0; i + static_cast<std::size_t>(keep_) < all.size(); ++i)
      if (all[i] != best) remove(path(all[i]));
  }

  // "step-00001000" -> 1000; nothing for any other name.
  static std::optional<std::int64_t> step_of(std::string_view name) {
    if (!name.starts_with(prefix)) return std::nullopt;
    name.remove_prefix(prefix.size());
    std::int64_t step = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
    if (error != std::errc{} || end != name.data() + name.size()) return std::nullopt;
    return step;
  }

 private:
  static constexpr std::string_view prefix = "step-";

  std::filesystem::directory_iterator entries() const {
    std::error_code error;
    std::filesystem::directory_iterator all(folder_, error);
    if (error) detail::fail(folder_.string(), error.message(), "a folder that can be read");
    return all;
  }

  // What cannot be removed costs room and nothing else.
  static void erase(const std::filesystem::path& path) {
    std::error_code error;
    std::filesystem::remove_all(path, error);
  }
  // A checkpoint that is half gone does not go by its name.
  static void remove(const std::filesystem::path& path) {
    const std::filesystem::path going = path.string() + detail::unfinished;
    std::error_code error;
    std::filesystem::rename(path, going, error);
    if (!error) erase(going);
  }

  void link_best(std::int64_t step) const {
    const std::filesystem::path link = folder_ / "best",
                                temporary = folder_ / ("best" + std::string(detail::unfinished));
    std::error_code error;
    std::filesystem::remove(temporary, error);
    std::filesystem::create_directory_symlink(path(step).filename(), temporary, error);
    if (!error) std::filesystem::rename(temporary, link, error);
    if (error) detail::fail(link.string(), error.message(), "a link that can be made");
  }

  std::filesystem::path folder_;
  int keep_;
};

}  // namespace ddpm::io
