// SPDX-License-Identifier: MIT
// Folders that are there as a whole or not at all, and which of them stay.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <ddpm/io/checkpoints.hpp>

#include "catch_shim.hpp"
#include "io/io_support.hpp"

using namespace ddpm;
using io::Checkpoints;
namespace fs = std::filesystem;

namespace {

auto writes(const std::string& text) {
  return [text](const fs::path& folder) { io::detail::write_file((folder / "file").string(), text); };
}

}  // namespace

TEST_CASE("a folder is replaced as a whole", "[checkpoints]") {
  const TemporaryFolder folder;
  const fs::path target = folder / "target";
  folder.put("target.tmp/left_by_a_kill", "x");
  io::detail::replace_folder(target, writes("first"));
  CHECK(contents(target / "file") == "first");
  CHECK_FALSE(fs::exists(target / "left_by_a_kill"));
  io::detail::replace_folder(
      target, [](const fs::path& to) { io::detail::write_file((to / "other").string(), "second"); });
  CHECK(contents(target / "other") == "second");
  CHECK_FALSE(fs::exists(target / "file"));
  CHECK(folder.files() == 1);
}

TEST_CASE("a folder that cannot be finished leaves the old one", "[checkpoints]") {
  const TemporaryFolder folder;
  const fs::path target = folder / "target";
  io::detail::replace_folder(target, writes("first"));
  const auto fails = [](const fs::path& to) {
    io::detail::write_file((to / "file").string(), "second");
    throw IoError("full");
  };
  CHECK(failure([&] { io::detail::replace_folder(target, fails); }) == "full");
  CHECK(contents(target / "file") == "first");
  CHECK(folder.files() == 1);
}

TEST_CASE("the last few stay, and the best", "[checkpoints]") {
  const TemporaryFolder folder;
  const fs::path where = folder / "checkpoints";
  const Checkpoints checkpoints(where, 2);
  CHECK(checkpoints.steps().empty());
  for (const int step : {100, 200}) checkpoints.save(step, 0, writes(std::to_string(step)));
  CHECK_FALSE(fs::exists(where / "best"));
  checkpoints.save(300, 300, writes("300"));
  CHECK(checkpoints.steps() == std::vector<std::int64_t>{200, 300});
  checkpoints.save(400, 300, writes("400"));
  checkpoints.save(500, 300, writes("500"));
  checkpoints.save(123456789, 300, writes("last"));
  CHECK(checkpoints.steps() == std::vector<std::int64_t>{300, 500, 123456789});
  CHECK(contents(where / "best" / "file") == "300");
  CHECK(checkpoints.path(500) == where / "step-00000500");
  checkpoints.save(123456789, 500, writes("again"));
  CHECK(contents(where / "best" / "file") == "500");
  CHECK(contents(checkpoints.path(123456789) / "file") == "again");
  CHECK(checkpoints.steps() == std::vector<std::int64_t>{500, 123456789});
}

TEST_CASE("only whole checkpoints count", "[checkpoints]") {
  const TemporaryFolder folder;
  for (const char* name :
       {"step-00000007.tmp/file", "step-x/file", "step-/file", "notes/file", "best.tmp/file"})
    folder.put(name, "x");
  const Checkpoints checkpoints(folder.path(), 1);
  CHECK(checkpoints.steps().empty());
  CHECK_FALSE(fs::exists(folder / "step-00000007.tmp"));
  CHECK_FALSE(fs::exists(folder / "best.tmp"));
  CHECK(fs::exists(folder / "notes"));
  CHECK(failure<ConfigError>([&] { Checkpoints(folder.path(), 0); }) ==
        "Checkpoints: 0 checkpoints to keep, expected at least 1");
}
