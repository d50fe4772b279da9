// SPDX-License-Identifier: MIT
// Whole steps of the CIFAR-10 U-Net of Ho et al. 2020 on a GPU.
#pragma once

#include "gpu_case.hpp"

namespace ddpm::benchmarks {

struct NetworkSteps {
  Work forward, train, sample;  // train: with AdamW and an average; sample: one ancestral step
  std::int64_t flops;           // of forward
};

// For batches of n images, with activations of T: float or bf16.
template <class T>
NetworkSteps network_steps(const Cuda& device, int n);

}  // namespace ddpm::benchmarks
