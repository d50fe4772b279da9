// SPDX-License-Identifier: MIT
// expect: deleted
// expect: Tensor<
#include <ddpm/core/tensor.hpp>

ddpm::Tensor<float, ddpm::Cpu> copy(const ddpm::Tensor<float, ddpm::Cpu>& tensor) { return tensor; }
