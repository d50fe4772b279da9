// SPDX-License-Identifier: MIT
// Cuda in plain C++: the kernels come from the library ddpm::compiled, which nvcc compiles once for a whole program.
// Include it after or in place of ddpm.hpp; a file that has ddpm.cuh has no use for it.
#pragma once

#include <ddpm/core/cuda.hpp>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm {

// Defined in kernels/ddpm/compiled for every op in float and bf16.
namespace compiled {
template <class Params>
void run(const Cuda& device, const Params& params);
template <class T>
bool gives_moments(const Cuda& device, const Conv2dGeometry& shape);
}  // namespace compiled

template <class Params>
void launch(const Cuda& device, const Params& params) {
  compiled::run(device, params);
}

template <class T>
bool conv2d_gives_moments(const Cuda& device, const Conv2dGeometry& shape) {
  return compiled::gives_moments<T>(device, shape);
}

}  // namespace ddpm
