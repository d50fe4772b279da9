// SPDX-License-Identifier: MIT
// ProgressBar: one line that a terminal redraws, or a plain line now and then where there is no terminal.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

namespace ddpm {

class ProgressBar {
 public:
  // `task` begins the line; the fraction `begun` of the work was done before.
  explicit ProgressBar(std::string task, std::FILE* out = stderr, double begun = 0)
      : task_(std::move(task)), out_(out), terminal_(isatty(fileno(out)) != 0), begun_(begun) {}
  ~ProgressBar() { finish(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `fraction` of the work is done; `details` follows the bar. Draws at most ten times a second on a terminal, else at
  // most every ten seconds.
  void update(double fraction, const std::string& details) {
    const double now = elapsed();
    if (now < next_draw_) return;
    next_draw_ = now + (terminal_ ? 0.1 : 10.0);
    draw(fraction, details, now);
  }

  // Draws the last state and ends the line.
  void complete(const std::string& details) {
    if (finished_) return;
    draw(1, details, elapsed());
    finish();
  }

  double elapsed() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  // 75 -> "1:15"
  static std::string clock(double seconds) {
    const long total = std::max(0L, static_cast<long>(seconds + 0.5));
    char text[32];
    if (total >= 3600)
      std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", total / 3600, total / 60 % 60, total % 60);
    else
      std::snprintf(text, sizeof text, "%ld:%02ld", total / 60, total % 60);
    return text;
  }

 private:
  static constexpr int width = 24;

  void draw(double fraction, const std::string& details, double now) {
    fraction = std::clamp(fraction, 0.0, 1.0);
    std::string times = clock(now);
    if (fraction < 1 && fraction > begun_ && now > 1)
      times += " left " + clock(now / (fraction - begun_) * (1 - fraction));
    if (terminal_) {
      const int filled = static_cast<int>(fraction * width + 0.5);
      std::fprintf(out_, "\r%s [%s%s] %3.0f %%  %s  %s\x1b[K", task_.c_str(),
                   std::string(static_cast<std::size_t>(filled), '#').c_str(),
                   std::string(static_cast<std::size_t>(width - filled), '.').c_str(), 100 * fraction,
                   details.c_str(), times.c_str());
      open_line_ = true;
    } else {
      std::fprintf(out_, "%s %3.0f %%  %s  %s\n", task_.c_str(), 100 * fraction, details.c_str(),
                   times.c_str());
    }
    std::fflush(out_);
  }

  void finish() {
    if (open_line_) std::fputc('\n', out_);
    open_line_ = false;
    finished_ = true;
  }

  std::string task_;
  std::FILE* out_;
  bool terminal_;
  double begun_;
  bool open_line_ = false;
  bool finished_ = false;
  double next_draw_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace ddpm
