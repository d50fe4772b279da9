// SPDX-License-Identifier: MIT
// Convolutions and linear layers, for ddpm::compiled.
#include <ddpm/kernels/conv2d.cuh>
#include <ddpm/kernels/linear.cuh>

#include <ddpm/compiled/run.cuh>

namespace ddpm::compiled {

template void run(const Cuda&, const Conv2dForward<float>&);
template void run(const Cuda&, const Conv2dForward<bf16>&);
template void run(const Cuda&, const Conv2dBackwardData<float>&);
template void run(const Cuda&, const Conv2dBackwardData<bf16>&);
template void run(const Cuda&, const Conv2dBackwardWeight<float>&);
template void run(const Cuda&, const Conv2dBackwardWeight<bf16>&);
template void run(const Cuda&, const Conv2dPrepare<float>&);
template void run(const Cuda&, const Conv2dPrepare<bf16>&);
template void run(const Cuda&, const LinearForward<float>&);
template void run(const Cuda&, const LinearForward<bf16>&);
template void run(const Cuda&, const LinearBackwardData<float>&);
template void run(const Cuda&, const LinearBackwardData<bf16>&);
template void run(const Cuda&, const LinearBackwardWeight<float>&);
template void run(const Cuda&, const LinearBackwardWeight<bf16>&);

template <class T>
bool gives_moments(const Cuda& device, const Conv2dGeometry& shape) {
  return conv2d_gives_moments<T>(device, shape);
}

template bool gives_moments<float>(const Cuda&, const Conv2dGeometry&);
template bool gives_moments<bf16>(const Cuda&, const Conv2dGeometry&);

}  // namespace ddpm::compiled
