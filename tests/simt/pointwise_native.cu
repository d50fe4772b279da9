// SPDX-License-Identifier: MIT
// Compiles the pointwise kernels natively; never run.
#include <ddpm/core/cuda.hpp>
#include <ddpm/kernels/activation.cuh>
#include <ddpm/kernels/adamw.cuh>
#include <ddpm/kernels/denoising.cuh>
#include <ddpm/kernels/loss.cuh>
#include <ddpm/kernels/noising.cuh>
#include <ddpm/kernels/reduce.cuh>

namespace ddpm {

template <class T>
void launch_each(const Cuda& device) {
  launch(device, Noising<T>{});
  launch(device, Denoising<T>{});
  launch(device, FillNormal<T>{});
  launch(device, MseLoss<T>{});
  launch(device, SiluForward<T>{});
  launch(device, SiluBackward<T>{});
  launch(device, SoftmaxForward<T>{});
  launch(device, SoftmaxBackward<T>{});
}

void launch_all(const Cuda& device) {
  launch_each<float>(device);
  launch_each<bf16>(device);
  launch(device, DrawTimesteps{});
  launch(device, BeginStep<float>{});
  launch(device, SquaredNorm<float>{});
  launch(device, AdamWUpdate<float>{});
  launch(device, EmaUpdate<float>{});
}

}  // namespace ddpm
