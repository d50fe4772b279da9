// SPDX-License-Identifier: MIT
// The examples on a GPU: compiled once for each, whose header EXAMPLE names.
#include <ddpm/ddpm.cuh>

#include EXAMPLE

namespace ddpm {
extern template class UNet<float, Cuda>;
extern template class UNet<bf16, Cuda>;
extern template class UNet<float, DryRun<Cuda>>;
extern template class UNet<bf16, DryRun<Cuda>>;
}  // namespace ddpm

int example::run_on_cuda(const Options& options) { return run_in_dtype(options, ddpm::Cuda{0}); }
