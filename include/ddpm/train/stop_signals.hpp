// SPDX-License-Identifier: MIT
// StopSignals: SIGINT and SIGTERM as a question that a loop can ask.
#pragma once

#include <signal.h>

namespace ddpm {

// While it lives, the first SIGINT or SIGTERM is noted; a second one ends the program as if there were none of this. One
// at a time in a process.
class StopSignals {
 public:
  StopSignals() {
    noted() = 0;
    struct sigaction action {};
    action.sa_handler = [](int signal) { noted() = signal; };
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    sigaction(SIGINT, &action, &interrupt_);
    sigaction(SIGTERM, &action, &terminate_);
  }
  ~StopSignals() {
    sigaction(SIGINT, &interrupt_, nullptr);
    sigaction(SIGTERM, &terminate_, nullptr);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // The signal that has come, or 0.
  int received() const { return noted(); }

 private:
  static volatile sig_atomic_t& noted() {
    static volatile sig_atomic_t signal = 0;
    return signal;
  }

  struct sigaction interrupt_ {
  }, terminate_{};
};

}  // namespace ddpm
