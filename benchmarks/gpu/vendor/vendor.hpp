// SPDX-License-Identifier: MIT
// What NVIDIA's own libraries make of the parameters of our kernels: oracles of tests and baselines of benchmarks.
#pragma once

#include <functional>

#include <ddpm/core/cuda.hpp>
#include <ddpm/ops/conv2d.hpp>
#include <ddpm/ops/linear.hpp>

namespace ddpm::vendor {

// Work on a stream of the device, with its products of float; or empty where the library was not found or cannot do it.
using Work = std::function<void()>;

// cuDNN's fastest algorithm, found by trying all. For x alone, padding that is the same on all sides, no bias and nothing
// added. A gradient of weights is overwritten, and for bf16 left in memory of cuDNN's own, as that has no float.
template <class T>
Work cudnn(const Cuda& device, const Conv2dForward<T>& params);
template <class T>
Work cudnn(const Cuda& device, const Conv2dBackwardData<T>& params);
template <class T>
Work cudnn(const Cuda& device, const Conv2dBackwardWeight<T>& params);

// cuBLAS, without bias and residual.
template <class T>
Work cublas(const Cuda& device, const LinearForward<T>& params);
template <class T>
Work cublas(const Cuda& device, const LinearBackwardData<T>& params);
template <class T>
Work cublas(const Cuda& device, const LinearBackwardWeight<T>& params);

}  // namespace ddpm::vendor
