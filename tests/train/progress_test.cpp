// SPDX-License-Identifier: MIT
// ProgressBar: plain lines in a file, one line that is redrawn on a terminal.

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include <ddpm/train/progress.hpp>

#include "catch_shim.hpp"

using ddpm::ProgressBar;

namespace {

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Close>;

std::string contents(std::FILE* file) {
  std::fflush(file);
  std::rewind(file);
  std::string text(10000, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  return text;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("times", "[progress]") {
  CHECK(ProgressBar::clock(0) == "0:00");
  CHECK(ProgressBar::clock(-3) == "0:00");
  CHECK(ProgressBar::clock(9.4) == "0:09");
  CHECK(ProgressBar::clock(59.6) == "1:00");
  CHECK(ProgressBar::clock(75) == "1:15");
  CHECK(ProgressBar::clock(3599) == "59:59");
  CHECK(ProgressBar::clock(3600) == "1:00:00");
  CHECK(ProgressBar::clock(36065) == "10:01:05");
}

TEST_CASE("where there is no terminal, plain lines now and then", "[progress]") {
  const File file(std::tmpfile());
  REQUIRE(file);
  {
    ProgressBar bar("training", file.get());
    bar.update(0.25, "loss 0.5");
    bar.update(0.5, "too soon for another line");
    bar.complete("loss 0.1");
    bar.complete("said twice");
  }
  const std::string text = contents(file.get());
  CHECK(text.rfind("training  25 %  loss 0.5  0:00", 0) == 0);
  CHECK(contains(text, "\ntraining 100 %  loss 0.1  0:00\n"));
  CHECK(std::count(text.begin(), text.end(), '\n') == 2);
  CHECK_FALSE(contains(text, "too soon"));
  CHECK_FALSE(contains(text, "twice"));
  CHECK_FALSE(contains(text, "\r"));
  CHECK_FALSE(contains(text, "\x1b"));
}

TEST_CASE("fractions beyond the ends are drawn as the ends", "[progress]") {
  const File file(std::tmpfile());
  REQUIRE(file);
  { ProgressBar("task", file.get()).update(1.7, "done"); }
  CHECK(contains(contents(file.get()), "task 100 %  done"));
  const File other(std::tmpfile());
  { ProgressBar("task", other.get()).update(-1, "begun"); }
  const std::string text = contents(other.get());
  CHECK(contains(text, "task   0 %  begun  0:00\n"));
  CHECK_FALSE(contains(text, "left"));
}

TEST_CASE("on a terminal one line is redrawn", "[progress]") {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) {
    WARN("this machine has no pseudo-terminals");
    if (terminal >= 0) close(terminal);
    return;
  }
  const int line = open(ptsname(terminal), O_RDWR | O_NOCTTY);
  REQUIRE(line >= 0);
  {
    const File file(fdopen(line, "w"));
    ProgressBar bar("training", file.get());
    bar.update(0.5, "half");
    bar.complete("all");
  }
  std::string text;
  for (char byte = 0; byte != '\n' && read(terminal, &byte, 1) == 1;) text += byte;
  close(terminal);
  CHECK(contains(text, "\rtraining [############............]  50 %  half"));
  CHECK(contains(text, "\rtraining [########################] 100 %  all"));
  CHECK(text.ends_with('\n'));
}
