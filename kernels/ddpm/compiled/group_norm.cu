// SPDX-License-Identifier: MIT
// Group norm, for ddpm::compiled.
#include <ddpm/kernels/group_norm.cuh>

#include <ddpm/compiled/run.cuh>

namespace ddpm::compiled {

template void run(const Cuda&, const GroupNormForward<float>&);
template void run(const Cuda&, const GroupNormForward<bf16>&);
template void run(const Cuda&, const GroupNormBackward<float>&);
template void run(const Cuda&, const GroupNormBackward<bf16>&);

}  // namespace ddpm::compiled
