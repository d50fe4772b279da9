// SPDX-License-Identifier: MIT
// Self-attention, for ddpm::compiled.
#include <ddpm/kernels/attention.cuh>

#include <ddpm/compiled/run.cuh>

namespace ddpm::compiled {

template void run(const Cuda&, const AttentionForward<float>&);
template void run(const Cuda&, const AttentionForward<bf16>&);
template void run(const Cuda&, const AttentionBackward<float>&);
template void run(const Cuda&, const AttentionBackward<bf16>&);

}  // namespace ddpm::compiled
