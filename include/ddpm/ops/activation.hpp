// SPDX-License-Identifier: MIT
// SiLU, y = x / (1 + exp(-x)), and its gradient; softmax over rows.
#pragma once

#include <cmath>

#include <ddpm/core/debug.hpp>
#include <ddpm/core/dtype.hpp>
#include <ddpm/core/tensor.hpp>

namespace ddpm {

enum class Activation { none, silu };

template <class T>
DDPM_HOST_DEVICE T silu_value(T x) {
  return x / (T(1) + std::exp(-x));
}

// d silu(x) / dx
template <class T>
DDPM_HOST_DEVICE T silu_slope(T x) {
  const T s = T(1) / (T(1) + std::exp(-x));
  return s * (T(1) + x * (T(1) - s));
}

template <class T>
struct SiluForward {
  const T* x;
  T* y;
  std::int64_t count;
};

template <class T>
struct SiluBackward {
  const T* x;
  const T* dy;
  T* dx;  // overwritten; may be dy
  std::int64_t count;
};

template <class T>
struct SoftmaxForward {
  const T* x;  // [Rows, Cols]
  T* y;
  std::int64_t rows;
  int cols;
};

// dx = y * (dy - sum over the row of dy * y)
template <class T>
struct SoftmaxBackward {
  const T* y;
  const T* dy;
  T* dx;
  std::int64_t rows;
  int cols;
};

template <class T, Device D>
void silu(const TensorView<T, D>& x, const TensorView<T, D>& y) {
  check(x.shape() == y.shape(), "silu: x is ", x.shape(), ", y is ", y.shape());
  launch(y.device(), SiluForward<T>{x.data(), y.data(), x.numel()});
  detail::check_outputs("silu", y);
}

template <class T, Device D>
void silu_backward(const TensorView<T, D>& x, const TensorView<T, D>& dy, const TensorView<T, D>& dx) {
  check(x.shape() == dy.shape() && x.shape() == dx.shape(), "silu_backward: x is ", x.shape(), ", dy ",
        dy.shape(), ", dx ", dx.shape());
  launch(dx.device(), SiluBackward<T>{x.data(), dy.data(), dx.data(), x.numel()});
  detail::check_outputs("silu_backward", dx);
}

template <class T, Device D>
void softmax(const TensorView<T, D>& x, const TensorView<T, D>& y) {
  check(x.shape().rank() == 2 && x.shape() == y.shape(), "softmax: x is ", x.shape(), ", y is ", y.shape(),
        ", expected two equal [Rows, Cols]");
  launch(y.device(), SoftmaxForward<T>{x.data(), y.data(), x.shape()[0], static_cast<int>(x.shape()[1])});
  detail::check_outputs("softmax", y);
}

template <class T, Device D>
void softmax_backward(const TensorView<T, D>& y, const TensorView<T, D>& dy, const TensorView<T, D>& dx) {
  check(y.shape().rank() == 2 && y.shape() == dy.shape() && y.shape() == dx.shape(),
        "softmax_backward: y is ", y.shape(), ", dy ", dy.shape(), ", dx ", dx.shape(),
        ", expected three equal [Rows, Cols]");
  launch(dx.device(),
         SoftmaxBackward<T>{y.data(), dy.data(), dx.data(), y.shape()[0], static_cast<int>(y.shape()[1])});
  detail::check_outputs("softmax_backward", dx);
}

}  // namespace ddpm
