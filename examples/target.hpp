// SPDX-License-Identifier: MIT
// What an example computes on (--device) and in (--dtype). Its header has the Options, whose `target` this is, and
// run<T>(options, device).
#pragma once

#include <string>

#include <ddpm/ddpm.hpp>

namespace ddpm {
// Compiled once for all examples, in unet.cpp. The dry runs are those of plan_training().
extern template class UNet<float, Cpu>;
extern template class UNet<bf16, Cpu>;
extern template class UNet<float, DryRun<Cpu>>;
extern template class UNet<bf16, DryRun<Cpu>>;
}  // namespace ddpm

namespace example {

struct Target {
  std::string device = "cpu", dtype = "float";
};

template <class Options, ddpm::Device D>
int run_in_dtype(const Options& options, const D& device) {
  return options.target.dtype == "bf16" ? run<ddpm::bf16>(options, device) : run<float>(options, device);
}

// By nvcc from cuda.cu, or from without_cuda.cpp.
struct Options;
int run_on_cuda(const Options& options);

}  // namespace example
