// SPDX-License-Identifier: MIT
// Compiles the kernels of convolutions and linear layers natively; never run.
#include <ddpm/core/cuda.hpp>
#include <ddpm/kernels/conv2d.cuh>
#include <ddpm/kernels/linear.cuh>

namespace ddpm {

template <class T>
void launch_each(const Cuda& device) {
  launch(device, Conv2dForward<T>{});
  launch(device, Conv2dBackwardData<T>{});
  launch(device, Conv2dBackwardWeight<T>{});
  launch(device, Conv2dPrepare<T>{});
  launch(device, LinearForward<T>{});
  launch(device, LinearBackwardData<T>{});
  launch(device, LinearBackwardWeight<T>{});
}

void launch_all_conv2d(const Cuda& device) {
  launch_each<float>(device);
  launch_each<bf16>(device);
}

}  // namespace ddpm
