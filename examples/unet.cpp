// SPDX-License-Identifier: MIT
// The U-Net of the examples.
#include <ddpm/ddpm.hpp>

namespace ddpm {
template class UNet<float, Cpu>;
template class UNet<bf16, Cpu>;
template class UNet<float, DryRun<Cpu>>;
template class UNet<bf16, DryRun<Cpu>>;
}  // namespace ddpm
