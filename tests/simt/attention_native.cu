// SPDX-License-Identifier: MIT
// Compiles the attention kernels natively; never run.
#include <ddpm/core/cuda.hpp>
#include <ddpm/kernels/attention.cuh>

namespace ddpm {

void launch_attention(const Cuda& device) {
  launch(device, AttentionForward<float>{});
  launch(device, AttentionForward<bf16>{});
  launch(device, AttentionBackward<float>{});
  launch(device, AttentionBackward<bf16>{});
}

}  // namespace ddpm
