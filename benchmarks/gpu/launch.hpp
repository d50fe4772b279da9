// SPDX-License-Identifier: MIT
// The kernels of the library for files that nvcc does not compile.
#pragma once

#include <ddpm/core/cuda.hpp>

namespace ddpm::benchmarks {

// Defined in launch.cu for the parameters of every op that is measured.
template <class Params>
void launch_on_gpu(const Cuda& device, const Params& params);

}  // namespace ddpm::benchmarks
