// SPDX-License-Identifier: MIT
#include <memory>
#include <type_traits>

#include <cudnn.h>

#include <ddpm/core/tensor.hpp>

#include "vendor.hpp"

namespace ddpm::vendor {

namespace {

void cudnn_check(cudnnStatus_t status, const char* call) {
  if (status != CUDNN_STATUS_SUCCESS)
    throw DeviceError(message(call, " failed: ", cudnnGetErrorString(status)), status);
}

cudnnHandle_t handle_of(const Cuda& device) {
  static const cudnnHandle_t handle = [] {
    cudnnHandle_t made = nullptr;
    cudnn_check(cudnnCreate(&made), "cudnnCreate");
    return made;
  }();
  cudnn_check(cudnnSetStream(handle, device.stream()), "cudnnSetStream");
  return handle;
}

// Descriptors of a convolution, and the memory its algorithm asks for.
class Convolution {
 public:
  Convolution(const Cuda& device, const Conv2dGeometry& g, cudnnDataType_t type) : device(device) {
    cudnn_check(cudnnCreateTensorDescriptor(&x), "cudnnCreateTensorDescriptor");
    cudnn_check(cudnnCreateTensorDescriptor(&y), "cudnnCreateTensorDescriptor");
    cudnn_check(cudnnCreateFilterDescriptor(&weight), "cudnnCreateFilterDescriptor");
    cudnn_check(cudnnCreateConvolutionDescriptor(&convolution), "cudnnCreateConvolutionDescriptor");
    cudnn_check(cudnnSetTensor4dDescriptor(x, CUDNN_TENSOR_NHWC, type, g.n, g.c, g.h, g.w),
                "cudnnSetTensor4dDescriptor");
    cudnn_check(cudnnSetTensor4dDescriptor(y, CUDNN_TENSOR_NHWC, type, g.n, g.cout, g.p, g.q),
                "cudnnSetTensor4dDescriptor");
    cudnn_check(cudnnSetFilter4dDescriptor(weight, type, CUDNN_TENSOR_NHWC, g.cout, g.c, g.kernel, g.kernel),
                "cudnnSetFilter4dDescriptor");
    cudnn_check(cudnnSetConvolution2dDescriptor(convolution, g.pad_begin, g.pad_begin, g.stride, g.stride, 1,
                                                1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
                "cudnnSetConvolution2dDescriptor");
    const bool is_exact = type == CUDNN_DATA_FLOAT && device.float_products == FloatProducts::exact;
    cudnn_check(cudnnSetConvolutionMathType(convolution, is_exact ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH),
                "cudnnSetConvolutionMathType");
  }
  ~Convolution() {
    cudnnDestroyTensorDescriptor(x);
    cudnnDestroyTensorDescriptor(y);
    cudnnDestroyFilterDescriptor(weight);
    cudnnDestroyConvolutionDescriptor(convolution);
  }
  Convolution(const Convolution&) = delete;
  Convolution& operator=(const Convolution&) = delete;

  // Takes the fastest of what find(results, count) measures.
  template <class Performance, class Find>
  auto choose(Find find) {
    Performance results[8];
    int count = 0;
    cudnn_check(find(results, &count), "the search for an algorithm of cuDNN");
    cudnn_check(count > 0 ? results[0].status : CUDNN_STATUS_NOT_SUPPORTED, "every algorithm of cuDNN");
    cudnn_check(cudnnSetConvolutionMathType(convolution, results[0].mathType), "cudnnSetConvolutionMathType");
    workspace = {device, {static_cast<std::int64_t>(results[0].memory)}};
    return results[0].algo;
  }
  std::size_t workspace_bytes() const { return static_cast<std::size_t>(workspace.numel()); }

  Cuda device;
  cudnnTensorDescriptor_t x = nullptr, y = nullptr;
  cudnnFilterDescriptor_t weight = nullptr;
  cudnnConvolutionDescriptor_t convolution = nullptr;
  Tensor<std::uint8_t, Cuda> workspace;
};

constexpr float one = 1, zero = 0;

bool is_known(const Conv2dGeometry& g) { return g.c2 == 0 && g.upsample == 1 && g.pad_begin == g.pad_end; }

template <class T>
std::shared_ptr<Convolution> convolution_of(const Cuda& device, const Conv2dGeometry& g) {
  return std::make_shared<Convolution>(device, g,
                                       std::is_same_v<T, bf16> ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT);
}

}  // namespace

template <class T>
Work cudnn(const Cuda& device, const Conv2dForward<T>& p) {
  if (!is_known(p.shape)) return {};
  const auto c = convolution_of<T>(device, p.shape);
  const auto algorithm = c->template choose<cudnnConvolutionFwdAlgoPerf_t>([&](auto* results, int* count) {
    return cudnnFindConvolutionForwardAlgorithm(handle_of(device), c->x, c->weight, c->convolution, c->y, 8,
                                                count, results);
  });
  return [=] {
    cudnn_check(
        cudnnConvolutionForward(handle_of(device), &one, c->x, p.x, c->weight, p.weight, c->convolution,
                                algorithm, c->workspace.data(), c->workspace_bytes(), &zero, c->y, p.y),
        "cudnnConvolutionForward");
  };
}

template <class T>
Work cudnn(const Cuda& device, const Conv2dBackwardData<T>& p) {
  if (!is_known(p.shape)) return {};
  const auto c = convolution_of<T>(device, p.shape);
  const auto algorithm =
      c->template choose<cudnnConvolutionBwdDataAlgoPerf_t>([&](auto* results, int* count) {
        return cudnnFindConvolutionBackwardDataAlgorithm(handle_of(device), c->weight, c->y, c->convolution,
                                                         c->x, 8, count, results);
      });
  return [=] {
    cudnn_check(
        cudnnConvolutionBackwardData(handle_of(device), &one, c->weight, p.weight, c->y, p.dy, c->convolution,
                                     algorithm, c->workspace.data(), c->workspace_bytes(), &zero, c->x, p.dx),
        "cudnnConvolutionBackwardData");
  };
}

template <class T>
Work cudnn(const Cuda& device, const Conv2dBackwardWeight<T>& p) {
  if (!is_known(p.shape)) return {};
  const auto c = convolution_of<T>(device, p.shape);
  const auto algorithm =
      c->template choose<cudnnConvolutionBwdFilterAlgoPerf_t>([&](auto* results, int* count) {
        return cudnnFindConvolutionBackwardFilterAlgorithm(handle_of(device), c->x, c->y, c->convolution,
                                                           c->weight, 8, count, results);
      });
  const auto own = std::make_shared<Tensor<bf16, Cuda>>();
  if (std::is_same_v<T, bf16>) *own = {device, {p.shape.cout, p.shape.taps(), p.shape.c}};
  return [=] {
    void* const to = own->empty() ? static_cast<void*>(p.dweight) : own->data();
    cudnn_check(cudnnConvolutionBackwardFilter(handle_of(device), &one, c->x, p.x, c->y, p.dy, c->convolution,
                                               algorithm, c->workspace.data(), c->workspace_bytes(), &zero,
                                               c->weight, to),
                "cudnnConvolutionBackwardFilter");
  };
}

template Work cudnn(const Cuda&, const Conv2dForward<float>&);
template Work cudnn(const Cuda&, const Conv2dForward<bf16>&);
template Work cudnn(const Cuda&, const Conv2dBackwardData<float>&);
template Work cudnn(const Cuda&, const Conv2dBackwardData<bf16>&);
template Work cudnn(const Cuda&, const Conv2dBackwardWeight<float>&);
template Work cudnn(const Cuda&, const Conv2dBackwardWeight<bf16>&);

}  // namespace ddpm::vendor
