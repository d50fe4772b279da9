// SPDX-License-Identifier: MIT
// Compiles upsampling and the gradient of a bias natively; never run.
#include <ddpm/core/cuda.hpp>
#include <ddpm/kernels/reduce.cuh>
#include <ddpm/kernels/resample.cuh>

namespace ddpm {

template <class T>
void launch_resampling(const Cuda& device) {
  launch(device, UpsampleForward<T>{});
  launch(device, UpsampleBackward<T>{});
  launch(device, BiasBackward<T>{});
}

template void launch_resampling<float>(const Cuda&);
template void launch_resampling<bf16>(const Cuda&);

}  // namespace ddpm
