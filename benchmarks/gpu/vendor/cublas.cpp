// SPDX-License-Identifier: MIT
#include <type_traits>

#include <cublas_v2.h>

#include "vendor.hpp"

namespace ddpm::vendor {

namespace {

void cublas_check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw DeviceError(message(call, " failed: ", cublasGetStatusString(status)), status);
}

cublasHandle_t handle_of(const Cuda& device) {
  static const cublasHandle_t handle = [] {
    cublasHandle_t made = nullptr;
    cublas_check(cublasCreate(&made), "cublasCreate");
    return made;
  }();
  cublas_check(cublasSetStream(handle, device.stream()), "cublasSetStream");
  return handle;
}

template <class T>
constexpr cudaDataType type_of = std::is_same_v<T, bf16> ? CUDA_R_16BF : CUDA_R_32F;

// A matrix by rows is, by columns as cuBLAS has it, its transpose.
struct Factor {
  const void* data;
  int row;  // elements in one
  cublasOperation_t operation;
};

// [columns][rows] by rows: the product of `left` and `right` by columns, plus `beta` times what is there.
struct Result {
  void* data;
  cudaDataType type;
  int rows, columns, depth;
  float beta;
};

Work product(const Cuda& device, cudaDataType type, const Factor& left, const Factor& right,
             const Result& to) {
  return [=] {
    const float one = 1;
    cublas_check(
        cublasGemmEx(
            handle_of(device), left.operation, right.operation, to.rows, to.columns, to.depth, &one,
            left.data, type, left.row, right.data, type, right.row, &to.beta, to.data, to.type, to.rows,
            device.float_products == FloatProducts::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
            CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
  };
}

}  // namespace

template <class T>
Work cublas(const Cuda& device, const LinearForward<T>& p) {
  return product(device, type_of<T>, {p.weight, p.in, CUBLAS_OP_T}, {p.x, p.in, CUBLAS_OP_N},
                 {p.y, type_of<T>, p.out, static_cast<int>(p.m), p.in, 0});
}

template <class T>
Work cublas(const Cuda& device, const LinearBackwardData<T>& p) {
  return product(device, type_of<T>, {p.weight, p.in, CUBLAS_OP_N}, {p.dy, p.out, CUBLAS_OP_N},
                 {p.dx, type_of<T>, p.in, static_cast<int>(p.m), p.out, 0});
}

template <class T>
Work cublas(const Cuda& device, const LinearBackwardWeight<T>& p) {
  return product(device, type_of<T>, {p.x, p.in, CUBLAS_OP_N}, {p.dy, p.out, CUBLAS_OP_T},
                 {p.dweight, CUDA_R_32F, p.in, p.out, static_cast<int>(p.m), 1});
}

template Work cublas(const Cuda&, const LinearForward<float>&);
template Work cublas(const Cuda&, const LinearForward<bf16>&);
template Work cublas(const Cuda&, const LinearBackwardData<float>&);
template Work cublas(const Cuda&, const LinearBackwardData<bf16>&);
template Work cublas(const Cuda&, const LinearBackwardWeight<float>&);
template Work cublas(const Cuda&, const LinearBackwardWeight<bf16>&);

}  // namespace ddpm::vendor
