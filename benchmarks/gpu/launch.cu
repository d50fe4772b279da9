// SPDX-License-Identifier: MIT
#include <ddpm/ddpm.cuh>

#include "launch.hpp"

namespace ddpm::benchmarks {

template <class Params>
void launch_on_gpu(const Cuda& device, const Params& params) {
  launch(device, params);
}

template void launch_on_gpu(const Cuda&, const Conv2dForward<float>&);
template void launch_on_gpu(const Cuda&, const Conv2dForward<bf16>&);
template void launch_on_gpu(const Cuda&, const Conv2dBackwardData<float>&);
template void launch_on_gpu(const Cuda&, const Conv2dBackwardData<bf16>&);
template void launch_on_gpu(const Cuda&, const Conv2dBackwardWeight<float>&);
template void launch_on_gpu(const Cuda&, const Conv2dBackwardWeight<bf16>&);
template void launch_on_gpu(const Cuda&, const LinearForward<float>&);
template void launch_on_gpu(const Cuda&, const LinearForward<bf16>&);
template void launch_on_gpu(const Cuda&, const LinearBackwardData<float>&);
template void launch_on_gpu(const Cuda&, const LinearBackwardData<bf16>&);
template void launch_on_gpu(const Cuda&, const LinearBackwardWeight<float>&);
template void launch_on_gpu(const Cuda&, const LinearBackwardWeight<bf16>&);
template void launch_on_gpu(const Cuda&, const GroupNormForward<float>&);
template void launch_on_gpu(const Cuda&, const GroupNormForward<bf16>&);
template void launch_on_gpu(const Cuda&, const GroupNormBackward<float>&);
template void launch_on_gpu(const Cuda&, const GroupNormBackward<bf16>&);
template void launch_on_gpu(const Cuda&, const AttentionForward<float>&);
template void launch_on_gpu(const Cuda&, const AttentionForward<bf16>&);
template void launch_on_gpu(const Cuda&, const AttentionBackward<float>&);
template void launch_on_gpu(const Cuda&, const AttentionBackward<bf16>&);
template void launch_on_gpu(const Cuda&, const Noising<float>&);
template void launch_on_gpu(const Cuda&, const Noising<bf16>&);
template void launch_on_gpu(const Cuda&, const Denoising<float>&);
template void launch_on_gpu(const Cuda&, const Denoising<bf16>&);
template void launch_on_gpu(const Cuda&, const MseLoss<float>&);
template void launch_on_gpu(const Cuda&, const MseLoss<bf16>&);
template void launch_on_gpu(const Cuda&, const AdamWUpdate<float>&);
template void launch_on_gpu(const Cuda&, const FillNormal<float>&);
template void launch_on_gpu(const Cuda&, const FillNormal<bf16>&);

}  // namespace ddpm::benchmarks
