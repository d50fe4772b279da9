// SPDX-License-Identifier: MIT
// expect: include <ddpm/ddpm.hpp>
// expect: no such op for Cpu
#include <ddpm/ops/activation.hpp>

void use(const ddpm::TensorView<float, ddpm::Cpu>& x) { ddpm::silu(x, x); }
