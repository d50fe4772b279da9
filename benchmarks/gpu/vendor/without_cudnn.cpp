// SPDX-License-Identifier: MIT
// Takes the place of cudnn.cpp where cuDNN was not found.
#include "vendor.hpp"

namespace ddpm::vendor {

template <class T>
Work cudnn(const Cuda&, const Conv2dForward<T>&) {
  return {};
}
template <class T>
Work cudnn(const Cuda&, const Conv2dBackwardData<T>&) {
  return {};
}
template <class T>
Work cudnn(const Cuda&, const Conv2dBackwardWeight<T>&) {
  return {};
}

template Work cudnn(const Cuda&, const Conv2dForward<float>&);
template Work cudnn(const Cuda&, const Conv2dForward<bf16>&);
template Work cudnn(const Cuda&, const Conv2dBackwardData<float>&);
template Work cudnn(const Cuda&, const Conv2dBackwardData<bf16>&);
template Work cudnn(const Cuda&, const Conv2dBackwardWeight<float>&);
template Work cudnn(const Cuda&, const Conv2dBackwardWeight<bf16>&);

}  // namespace ddpm::vendor
