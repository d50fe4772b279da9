// SPDX-License-Identifier: MIT
// Compiles group normalisation natively; never run.
#include <ddpm/core/cuda.hpp>
#include <ddpm/kernels/group_norm.cuh>

namespace ddpm {

template <class T>
void launch_group_norms(const Cuda& device) {
  launch(device, GroupNormForward<T>{});
  launch(device, GroupNormBackward<T>{});
}

template void launch_group_norms<float>(const Cuda&);
template void launch_group_norms<bf16>(const Cuda&);

}  // namespace ddpm
