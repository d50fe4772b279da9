// SPDX-License-Identifier: MIT
// expect: copy_from
// expect: no known conversion
#include <ddpm/core/tensor.hpp>

void copy(const ddpm::Tensor<float, ddpm::Cpu>& from, const ddpm::Tensor<float, ddpm::Reference>& to) {
  to.copy_from(from);
}
