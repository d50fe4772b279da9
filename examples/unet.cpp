// SPDX-License-Identifier: MIT
// The U-Net of the examples.
#include "target.hpp"

namespace ddpm {

template class UNet<float, Cpu>;
template class UNet<bf16, Cpu>;
template class UNet<float, DryRun<Cpu>>;
template class UNet<bf16, DryRun<Cpu>>;
#if defined(EXAMPLE_CUDA)
template class UNet<float, Cuda>;
template class UNet<bf16, Cuda>;
template class UNet<float, DryRun<Cuda>>;
template class UNet<bf16, DryRun<Cuda>>;
#endif

}  // namespace ddpm
