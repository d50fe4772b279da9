// SPDX-License-Identifier: MIT
// The U-Net of the examples, on a GPU.
#include <ddpm/ddpm.cuh>

namespace ddpm {
template class UNet<float, Cuda>;
template class UNet<bf16, Cuda>;
template class UNet<float, DryRun<Cuda>>;
template class UNet<bf16, DryRun<Cuda>>;
}  // namespace ddpm
