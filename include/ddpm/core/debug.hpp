// SPDX-License-Identifier: MIT
// DDPM_DEBUG: what a program is to show of its work, and how carefully it is to do it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <string_view>

#include <ddpm/core/error.hpp>

namespace ddpm {

// A list such as DDPM_DEBUG=log,sync. Each word also has everything launched one by one, never from a graph.
struct DebugOptions {
  bool log = false;    // each kernel launch on stderr
  bool sync = false;   // wait after each launch, so that an error is reported by the kernel that made it
  bool nan = false;    // look for NaN in what each op puts out, and name the first that made one
  bool nvtx = false;   // each kernel launch is a range of its name in NVIDIA's profilers
  bool eager = false;  // nothing else

  bool any() const { return log || sync || nan || nvtx || eager; }

  static const DebugOptions& get() {
    static const DebugOptions options = parse(std::getenv("DDPM_DEBUG"));
    return options;
  }

  static DebugOptions parse(const char* list) {
    DebugOptions options;
    for (std::string_view rest = list ? list : ""; !rest.empty();) {
      const std::string_view word = rest.substr(0, rest.find(','));
      options.log |= word == "log";
      options.sync |= word == "sync";
      options.nan |= word == "nan";
      options.nvtx |= word == "nvtx";
      options.eager |= word == "eager";
      rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    }
    return options;
  }
};

namespace detail {

template <class View>
void check_output(const char* op, const View& output) {
  if (output.empty()) return;
  const auto values = output.to_host();
  for (std::size_t i = 0; i < values.size(); ++i)
    check<Error>(!std::isnan(static_cast<double>(values[i])), op, ": element ", i, " of an output ",
                 output.shape(), " is not a number, which DDPM_DEBUG=nan has found in no output before");
}

// Every op calls it with the tensors it has written, of which some may be empty. Throws Error.
template <class... Views>
void check_outputs(const char* op, const Views&... outputs) {
  if (DebugOptions::get().nan) [[unlikely]]
    (check_output(op, outputs), ...);
}

}  // namespace detail

}  // namespace ddpm
