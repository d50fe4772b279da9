// SPDX-License-Identifier: MIT
// expect: no matching function for call to
// expect: add_to
// expect: conflicting types for parameter
#include <ddpm/ddpm.hpp>

void use(const ddpm::TensorView<float, ddpm::Cpu>& x, const ddpm::TensorView<float, ddpm::Reference>& y) {
  ddpm::add_to(x, y);
}
