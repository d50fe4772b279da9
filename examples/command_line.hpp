// SPDX-License-Identifier: MIT
// The main() of the examples.
#pragma once

#include <cstdio>
#include <exception>

#include <CLI/CLI.hpp>

#include "target.hpp"

namespace example {

inline void add_target(CLI::App& app, Target& target) {
  app.add_option("--device", target.device, "cpu, or cuda: a GPU")->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--dtype", target.dtype, "of activations: float or bf16; weights stay float")
      ->check(CLI::IsMember({"float", "bf16"}));
}

template <class Options>
int run_on_target(const Options& options, const ddpm::Cpu& cpu) {
  return options.target.device == "cuda" ? run_on_cuda(options) : run_in_dtype(options, cpu);
}

}  // namespace example
