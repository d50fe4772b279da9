// SPDX-License-Identifier: MIT
// expect: include <ddpm/ddpm.hpp>
// expect: no such op for Reference
#include <ddpm/ops/activation.hpp>

void use(const ddpm::TensorView<float, ddpm::Reference>& x) { ddpm::silu(x, x); }
