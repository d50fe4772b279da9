// SPDX-License-Identifier: MIT
// kill_driver KILLS: a run that is killed (SIGKILL) KILLS times at random moments, and resumed each time, ends in the
// bytes of a run that never was.
//
// Runs are processes forked from this one, which itself starts no thread.

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>

#include "train/tiny_run.hpp"

namespace {

namespace fs = std::filesystem;

// A process that trains until `steps`, saving after each.
pid_t start(const fs::path& out, std::int64_t steps) {
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child > 0) return child;
  int code = 1;
  try {
    dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
    train_support::TinyRun run;
    auto options = train_support::TinyRun::options(out, steps);
    options.resume = true;
    options.save_every = 1;
    code = run.train(options);
  } catch (const std::exception& error) {
    std::printf("the run failed: %s\n", error.what());
    std::fflush(stdout);
  }
  _exit(code);
}

int wait_for(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) throw std::runtime_error("waitpid failed");
  return status;
}

void expect(bool ok, const std::string& what) {
  if (!ok) throw std::runtime_error(what);
}

std::int64_t last_step(const fs::path& out) {
  if (!fs::exists(out / "checkpoints")) return 0;
  std::int64_t last = 0;
  std::error_code error;  // what is listed may be gone the next moment
  for (const auto& entry : fs::directory_iterator(out / "checkpoints", error))
    if (const std::string name = entry.path().filename().string();
        name.starts_with("step-") && entry.path().extension().empty())
      last = std::max(last, std::int64_t{std::stoll(name.substr(5))});
  return last;
}

void finish(const fs::path& out, std::int64_t steps) {
  const int status = wait_for(start(out, steps));
  expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, out.string() + " did not reach its last step");
}

std::string contents(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Kills a run: two times in three after it has saved something, so that there is progress; else at any moment.
void kill_once(const fs::path& out, std::mt19937& random) {
  constexpr std::int64_t endless = 1'000'000;
  constexpr auto longest = std::chrono::seconds(60);
  std::uniform_int_distribution<int> microseconds(0, 100'000);
  const std::int64_t before = last_step(out);
  const pid_t child = start(out, endless);
  const auto deadline = std::chrono::steady_clock::now() + longest;
  const bool saves_first = random() % 3 != 0;
  while (saves_first && last_step(out) == before && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::this_thread::sleep_for(std::chrono::microseconds(microseconds(random)));
  kill(child, SIGKILL);
  const int status = wait_for(child);
  expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the run ended before it was killed");
  expect(!saves_first || last_step(out) > before, "the run saved nothing in a minute");
}

void run(int kills, const fs::path& folder) {
  std::mt19937 random(static_cast<unsigned>(kills));
  for (int i = 0; i < kills; ++i) kill_once(folder / "killed", random);
  const std::int64_t steps = last_step(folder / "killed") + 3;
  finish(folder / "killed", steps);
  finish(folder / "whole", steps);
  int files = 0;
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(steps));
  const fs::path whole = folder / "whole" / "checkpoints" / name,
                 killed = folder / "killed" / "checkpoints" / name;
  for (const auto& entry : fs::recursive_directory_iterator(whole)) {
    if (!entry.is_regular_file()) continue;
    const fs::path part = fs::relative(entry.path(), whole);
    expect(contents(entry.path()) == contents(killed / part), part.string() + " differs");
    ++files;
  }
  expect(files == 5, std::to_string(files) + " files in the last checkpoint, expected 5");
  expect(fs::read_symlink(whole.parent_path() / "best") == fs::read_symlink(killed.parent_path() / "best"),
         "another checkpoint is the best");
  for (const auto& entry : fs::directory_iterator(killed.parent_path()))
    expect(entry.path().extension() != ".tmp", entry.path().string() + " was left behind");
  std::printf("%d kills, %lld steps: the same bytes\n", kills, static_cast<long long>(steps));
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder = (fs::temp_directory_path() / "ddpm_kill_XXXXXX").string();
  int code = 1;
  try {
    expect(mkdtemp(folder.data()) != nullptr, "mkdtemp failed");
    run(argc > 1 ? std::stoi(argv[1]) : 5, folder);
    code = 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kill_driver: %s\n", error.what());
  }
  std::error_code error;
  fs::remove_all(folder, error);
  return code;
}
