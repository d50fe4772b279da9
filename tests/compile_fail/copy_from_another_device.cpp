// SPDX-License-Identifier: MIT
// expect: copy_from
// expect: ddpm::TensorView<float, ddpm::Reference>
#include <ddpm/core/tensor.hpp>

void copy(const ddpm::Tensor<float, ddpm::Cpu>& from, const ddpm::Tensor<float, ddpm::Reference>& to) {
  to.copy_from(from);
}
