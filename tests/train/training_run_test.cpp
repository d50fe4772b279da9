// SPDX-License-Identifier: MIT
// Runs in a folder: what is continued equals what was never cut, byte for byte.

#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <ddpm/ddpm.hpp>
#include <ddpm/io/training_run.hpp>

#include "catch_shim.hpp"
#include "io/io_support.hpp"
#include "train/tiny_run.hpp"

using namespace ddpm;
using namespace train_support;
namespace fs = std::filesystem;

namespace {

// Relative path -> contents, of a folder and those below it.
std::map<std::string, std::string> files_in(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files[fs::relative(entry.path(), folder).string()] = contents(entry.path());
  return files;
}

// Whether two checkpoints are the same bytes; a checkpoint has five files.
void check_same(const fs::path& a, const fs::path& b) {
  const auto first = files_in(a), second = files_in(b);
  REQUIRE(first.size() == 5);
  for (const auto& [name, bytes] : first) {
    INFO(name);
    REQUIRE(second.contains(name));
    CHECK(bytes == second.at(name));
  }
  CHECK(first.size() == second.size());
}

fs::path checkpoint(const fs::path& out, int step) {
  const std::string digits = std::to_string(step);
  return out / "checkpoints" / ("step-" + std::string(8 - digits.size(), '0') + digits);
}

template <class T = float>
int train(const fs::path& out, int steps, bool resume = false) {
  TinyRunOf<T> run;
  io::RunOptions options = TinyRun::options(out, steps);
  options.resume = resume;
  return run.train(options);
}

// The steps that metrics.jsonl has a loss for.
std::vector<int> logged_steps(const fs::path& out) {
  std::vector<int> steps;
  std::ifstream file(out / "metrics.jsonl");
  for (std::string line; std::getline(file, line);)
    if (const auto json = io::detail::Json::parse(line); json.contains("loss")) steps.push_back(json["step"]);
  return steps;
}

// The messages of the progress bar go to a file of their own.
struct Quiet {
  Quiet() : kept(dup(2)) {
    std::fflush(stderr);
    const int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, 2);
    close(nowhere);
  }
  ~Quiet() {
    std::fflush(stderr);
    dup2(kept, 2);
    close(kept);
  }
  int kept;
};

}  // namespace

TEST_CASE("2 N steps are N steps, a resume and N steps, for any number of threads", "[run]") {
  const Quiet quiet;
  const TemporaryFolder folder;
  const int threads = ThreadPool::instance().threads();
  REQUIRE(train(folder / "whole", 14) == 0);
  for (const int cut : {1, 7, 13}) {
    INFO("cut at " << cut);
    const fs::path out = folder / ("cut" + std::to_string(cut));
    ThreadPool::instance().resize(1);
    REQUIRE(train(out, cut) == 0);
    ThreadPool::instance().resize(5);
    REQUIRE(train(out, 14, true) == 0);
    ThreadPool::instance().resize(threads);
    check_same(checkpoint(folder / "whole", 14), checkpoint(out, 14));
    CHECK(fs::read_symlink(out / "checkpoints" / "best") ==
          fs::read_symlink(folder / "whole" / "checkpoints" / "best"));
    CHECK(logged_steps(out) == logged_steps(folder / "whole"));
  }
  CHECK(logged_steps(folder / "whole") == std::vector{2, 4, 6, 8, 10, 12, 14});
}

TEST_CASE("a run in bf16 is continued exactly", "[run]") {
  const Quiet quiet;
  const TemporaryFolder folder;
  REQUIRE(train<bf16>(folder / "whole", 10) == 0);
  REQUIRE(train<bf16>(folder / "cut", 7) == 0);
  REQUIRE(train<bf16>(folder / "cut", 10, true) == 0);
  check_same(checkpoint(folder / "whole", 10), checkpoint(folder / "cut", 10));
}

TEST_CASE("a run that a signal ends within a step goes on within it", "[run]") {
  const Quiet quiet;
  const TemporaryFolder folder;
  REQUIRE(train(folder / "whole", 9) == 0);
  for (const int signal : {SIGINT, SIGTERM}) {
    const fs::path out = folder / std::to_string(signal);
    TinyRun run;
    int batches = 0;
    run.loader.on_next = [&] {
      if (++batches == 3 * 4 + 2) raise(signal);
    };
    CHECK(run.train(TinyRun::options(out, 9)) == 128 + signal);
    CHECK(run.trainer.position().step == 4);
    CHECK(run.trainer.position().batches == 2);
    REQUIRE(fs::exists(checkpoint(out, 4)));
    REQUIRE(train(out, 9, true) == 0);
    check_same(checkpoint(folder / "whole", 9), checkpoint(out, 9));
  }
}

TEST_CASE("the last checkpoints stay, and the best", "[run]") {
  const Quiet quiet;
  const TemporaryFolder folder;
  TinyRun run;
  io::RunOptions options = TinyRun::options(folder / "run", 20);
  std::vector<double> losses;
  const auto lowest_at_6 = [&] {
    return losses.emplace_back(losses.size() == 2 ? 0.25 : 0.5 - 0.01 * double(losses.size()));
  };
  REQUIRE(io::train(run.trainer, options, {.held_out_loss = lowest_at_6}) == 0);
  CHECK(losses.size() == 10);
  const fs::path checkpoints = folder / "run" / "checkpoints";
  CHECK(fs::read_symlink(checkpoints / "best") == "step-00000006");
  CHECK(io::Checkpoints(checkpoints, 2).steps() == std::vector<std::int64_t>{6, 18, 20});
  for (const char* file :
       {"report.html", "loss.png", "held_out_loss.png", "lr.png", "samples/step-00000010.png"})
    CHECK(fs::file_size(folder / "run" / file) > 100);
}

TEST_CASE("a checkpoint is a folder to sample from, by the first average", "[run]") {
  const Quiet quiet;
  const TemporaryFolder folder;
  TinyRun run;
  REQUIRE(run.train(TinyRun::options(folder / "run", 4)) == 0);
  const auto loaded = io::load_diffusers<TinyRun::Net>(checkpoint(folder / "run", 4), Cpu{});
  CHECK(loaded.parameters().values().to_host() == run.trainer.best_model().parameters().values().to_host());
  CHECK(loaded.config() == tiny_config());
}

TEST_CASE("a run of another configuration is not continued", "[run]") {
  const Quiet quiet;
  const TemporaryFolder folder;
  REQUIRE(train(folder / "run", 3) == 0);
  const std::string where = checkpoint(folder / "run", 3).string();
  const auto refusal = [&](const TinyOptions& changed, const io::SchedulerConfig& scheduler = {}) {
    TinyRun run(changed);
    io::RunOptions options = TinyRun::options(folder / "run", 6);
    options.resume = true;
    options.scheduler = scheduler;
    return failure([&] { run.train(options); });
  };
  const std::string found = where + ": found a run with ";
  TinyOptions changed;
  changed.batch = 2;
  CHECK(refusal(changed) == found + "data/batch 4, expected data/batch 2");
  changed = {};
  changed.seed = 8;
  CHECK(refusal(changed) == found + "training/seed 7, expected training/seed 8");
  changed = {};
  changed.trainer.lr.peak = 0.5;
  CHECK(refusal(changed) == found + "training/lr 0.01, expected training/lr 0.5");
  changed = {};
  changed.trainer.ema = {0.9};
  CHECK(refusal(changed) == found + "training/ema/1 0.5, expected training/ema/1 left out");
  CHECK(refusal({}, {.variance_type = "fixed_large"}) ==
        found + "scheduler/variance_type \"fixed_small\", expected scheduler/variance_type \"fixed_large\"");
  CHECK(refusal({}).empty());
}

TEST_CASE("a run is not begun over another", "[run]") {
  const Quiet quiet;
  const TemporaryFolder folder;
  REQUIRE(train(folder / "run", 3) == 0);
  CHECK(failure<ConfigError>([&] { train(folder / "run", 6); }) ==
        (folder / "run").string() +
            ": found a run saved at step 3, expected none, or to be told to resume it");
}

TEST_CASE("a damaged state is refused", "[run]") {
  const Quiet quiet;
  const TemporaryFolder folder;
  REQUIRE(train(folder / "run", 3) == 0);
  const fs::path state = checkpoint(folder / "run", 3) / io::training_state_file;
  const std::string bytes = contents(state);
  const auto refused_with = [&](const std::string& damaged) {
    std::ofstream(state, std::ios::binary) << damaged;
    return failure([&] { train(folder / "run", 6, true); });
  };
  CHECK(is_io_sentence(refused_with(bytes.substr(0, bytes.size() - 4)), state));
  std::string renamed = bytes;
  renamed.replace(renamed.find("\"position\""), 10, "\"somewhere");
  CHECK_FALSE(refused_with(renamed).empty());
  renamed = bytes;
  renamed.replace(renamed.find("\\\"cursor\\\""), 10, "\\\"kursor\\\"");
  CHECK(is_io_sentence(refused_with(renamed), state));
}

TEST_CASE("a full disk ends the run and leaves the last checkpoint", "[run]") {
  const Quiet quiet;
  const TemporaryFolder folder;
  REQUIRE(train(folder / "whole", 9) == 0);
  REQUIRE(train(folder / "run", 4) == 0);
  const auto before = files_in(folder / "run" / "checkpoints");
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit unlimited{};
  getrlimit(RLIMIT_FSIZE, &unlimited);
  rlimit limited = unlimited;
  limited.rlim_cur = fs::file_size(checkpoint(folder / "run", 4) / io::training_state_file) - 100;
  setrlimit(RLIMIT_FSIZE, &limited);
  const std::string text = failure([&] { train(folder / "run", 9, true); });
  setrlimit(RLIMIT_FSIZE, &unlimited);
  signal(SIGXFSZ, handler);
  CHECK(mentions(text, io::training_state_file));
  CHECK(mentions(text, "expected a file that can be written"));
  CHECK(files_in(folder / "run" / "checkpoints") == before);
  REQUIRE(train(folder / "run", 9, true) == 0);
  check_same(checkpoint(folder / "whole", 9), checkpoint(folder / "run", 9));
}

TEST_CASE("a loss that is no number stops the run, its state is saved", "[run]") {
  const Quiet quiet;
  const TemporaryFolder folder;
  TinyRun run;
  const auto poison = [&](const StepReport& report) {
    if (report.step != 5) return;
    const auto values = run.trainer.model().parameters().values();
    values.upload(std::vector<float>(std::size_t(values.numel()), std::numeric_limits<float>::quiet_NaN()));
    run.trainer.model().parameters().changed();
  };
  run.on_step = poison;
  const fs::path out = folder / "run";
  const std::string text = failure<Error>([&] { run.train(TinyRun::options(out, 9)); });
  CHECK(text == "training: the loss is nan at step 6, expected a finite number; the state before it is in " +
                    (out / "failed-at-step-6").string());
  CHECK(files_in(out / "failed-at-step-6").size() == 5);
  CHECK(io::Checkpoints(out / "checkpoints", 2).steps().back() == 4);
}

TEST_CASE("a run that is rolled back goes on with the batches that follow", "[run]") {
  const Quiet quiet;
  const TemporaryFolder folder;
  TinyRun run;
  int poisonings = 0, most = 1;
  run.on_step = [&](const StepReport& report) {
    if (report.step != 5 || ++poisonings > most) return;
    const auto values = run.trainer.model().parameters().values();
    values.upload(std::vector<float>(std::size_t(values.numel()), std::numeric_limits<float>::quiet_NaN()));
    run.trainer.model().parameters().changed();
  };
  io::RunOptions options = TinyRun::options(folder / "run", 9);
  options.on_non_finite = io::OnNonFinite::roll_back;
  REQUIRE(run.train(options) == 0);
  CHECK(run.trainer.position().step == 9);
  // Steps 1 to 5, the batch at fault, then 5 to 9.
  CHECK(run.trainer.position().cursor == 4 * (5 * 3 + 1 + 5 * 3));
  CHECK(run.trainer.position().rng.samples == 4 * (5 * 3 + 1 + 5 * 3));
  CHECK(logged_steps(folder / "run") == std::vector{2, 4, 6, 8});

  TinyRun hopeless;
  hopeless.on_step = [&](const StepReport& report) {
    if (report.step != 5) return;
    const auto values = hopeless.trainer.model().parameters().values();
    values.upload(std::vector<float>(std::size_t(values.numel()), std::numeric_limits<float>::quiet_NaN()));
    hopeless.trainer.model().parameters().changed();
  };
  options.out = folder / "hopeless";
  CHECK(mentions(failure<Error>([&] { hopeless.train(options); }), "the loss is nan at step 6"));
}

TEST_CASE("too little memory is said before it is taken", "[run]") {
  const Quiet quiet;
  const TemporaryFolder folder;
  TinyOptions huge;
  huge.batch = 1 << 23;
  TinyRun run(huge);
  io::RunOptions options = TinyRun::options(folder / "run", 1);
  const std::string text = failure<ConfigError>([&] { run.train(options); });
  CHECK(text.starts_with("train: found too little memory for batches of 8388608 images"));
  CHECK(mentions(text, "expected a smaller batch"));
}
