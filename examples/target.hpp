// SPDX-License-Identifier: MIT
// What an example computes on (--device) and in (--dtype).
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include <ddpm/ddpm.hpp>
#if defined(EXAMPLE_CUDA)
#include <ddpm/compiled.hpp>
#endif

namespace ddpm {

// Compiled once for all examples, in unet.cpp. The dry runs are those of plan_training().
extern template class UNet<float, Cpu>;
extern template class UNet<bf16, Cpu>;
extern template class UNet<float, DryRun<Cpu>>;
extern template class UNet<bf16, DryRun<Cpu>>;
#if defined(EXAMPLE_CUDA)
extern template class UNet<float, Cuda>;
extern template class UNet<bf16, Cuda>;
extern template class UNet<float, DryRun<Cuda>>;
extern template class UNet<bf16, DryRun<Cuda>>;
#endif

}  // namespace ddpm

namespace example {

struct Target {
  std::string device = "cpu", dtype = "float";
};

inline void add_target(CLI::App& app, Target& target) {
  app.add_option("--device", target.device, "cpu, or cuda: a GPU")->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option(
         "--dtype", target.dtype,
         "of activations: float, bf16 or tf32 (float, multiplied as TF32 by a GPU); weights stay float")
      ->check(CLI::IsMember({"float", "bf16", "tf32"}));
}

template <class Options, ddpm::Device D>
int run_in_dtype(const Options& options, const D& device) {
  return options.target.dtype == "bf16" ? run<ddpm::bf16>(options, device) : run<float>(options, device);
}

// Calls the example's run<T>(options, device).
template <class Options>
int run_on_target(const Options& options, const ddpm::Cpu& cpu = {}) {
  const bool is_tf32 = options.target.dtype == "tf32";
  if (options.target.device == "cpu") {
    ddpm::check<ddpm::ConfigError>(!is_tf32, "found --dtype tf32 for --device cpu, expected float or bf16");
    return run_in_dtype(options, cpu);
  }
#if defined(EXAMPLE_CUDA)
  using ddpm::FloatProducts;
  return run_in_dtype(options, ddpm::Cuda{0, is_tf32 ? FloatProducts::tf32 : FloatProducts::exact});
#else
  throw ddpm::ConfigError("found --device cuda, expected cpu, as this program was built without CUDA");
#endif
}

}  // namespace example
