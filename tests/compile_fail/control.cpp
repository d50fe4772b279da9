// SPDX-License-Identifier: MIT
// expect-success
#include <ddpm/ddpm.hpp>

void use(const ddpm::TensorView<float, ddpm::Cpu>& cpu,
         const ddpm::TensorView<double, ddpm::Reference>& reference) {
  ddpm::silu(cpu, cpu);
  ddpm::silu(reference, reference);
}
