// SPDX-License-Identifier: MIT
// Linear layer: y[m,o] = bias[o] + sum over i of x[m,i] * weight[o,i] (torch.nn.functional.linear), and its
// gradients. With a residual, y = scale * (that + residual).
#pragma once

#include <ddpm/core/debug.hpp>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm {

template <class T>
struct LinearForward {
  const T* x;                  // [M, In]
  const T* weight;             // [Out, In]
  const T* prepared;           // or null, see linear_geometry()
  const Accumulator<T>* bias;  // [Out], or null
  const T* residual;           // [M, Out], or null
  Accumulator<T> scale;
  T* y;  // [M, Out]
  std::int64_t m;
  int in, out;
};

template <class T>
struct LinearBackwardData {
  const T* dy;        // [M, Out]
  const T* weight;    // [Out, In]
  const T* prepared;  // or null
  T* dx;              // [M, In], overwritten
  std::int64_t m;
  int in, out;
  const T* add = nullptr;  // [M, In], added to dx, or null; may be dx
};

template <class T>
struct LinearBackwardWeight {
  const T* x;
  const T* dy;
  Accumulator<T>* dweight;  // [Out, In], added to
  std::int64_t m;
  int in, out;
  Accumulator<T>* dbias = nullptr;  // [Out], added to, or null
};

// A linear layer is a 1x1 convolution of M pixels; its weight is prepared as that one's.
inline Conv2dGeometry linear_geometry(std::int64_t m, int in, int out) {
  return {1, static_cast<int>(m), 1, in, 0, out, 1, 1, 0, 0, 1, static_cast<int>(m), 1};
}

template <class T, Device D>
struct LinearOperands {
  TensorView<T, D> x;                       // [..., In]
  TensorView<T, D> weight;                  // [Out, In]
  TensorView<T, D> prepared = {};           // optional
  TensorView<Accumulator<T>, D> bias = {};  // [Out], optional
  TensorView<T, D> residual = {};           // as y, optional
  double scale = 1;
};

namespace detail {

// The number of rows of x, which has `in` elements in each.
template <class T, Device D>
std::int64_t linear_rows(const char* op, const TensorView<T, D>& x, std::int64_t in) {
  const int rank = x.shape().rank();
  check(rank >= 1 && x.shape()[rank - 1] == in, op, ": ", x.shape(), " does not end in ", in, " features");
  return x.numel() / in;
}

}  // namespace detail

template <class T, Device D>
void linear(const LinearOperands<T, D>& in, const TensorView<T, D>& y) {
  const Shape& w = in.weight.shape();
  check(w.rank() == 2, "linear: weight must be [Out, In], found ", w);
  const std::int64_t m = detail::linear_rows("linear", in.x, w[1]);
  check(detail::linear_rows("linear", y, w[0]) == m, "linear: x ", in.x.shape(), " and y ", y.shape(),
        " differ in rows");
  detail::check_optional("linear", "bias", in.bias, {w[0]});
  detail::check_optional("linear", "residual", in.residual, y.shape());
  launch(y.device(), LinearForward<T>{in.x.data(), in.weight.data(), in.prepared.data(), in.bias.data(),
                                      in.residual.data(), static_cast<Accumulator<T>>(in.scale), y.data(), m,
                                      static_cast<int>(w[1]), static_cast<int>(w[0])});
  detail::check_outputs("linear", y);
}

// dx = the gradient for x, plus `add`, overwritten. `prepared` and `add` may be empty, and `add` may be dx.
template <class T, Device D>
void linear_backward_data(const TensorView<T, D>& dy, const TensorView<T, D>& weight,
                          const TensorView<T, D>& prepared, const TensorView<T, D>& dx,
                          const TensorView<T, D>& add = {}) {
  const Shape& w = weight.shape();
  check(w.rank() == 2, "linear_backward_data: weight must be [Out, In], found ", w);
  const std::int64_t m = detail::linear_rows("linear_backward_data", dx, w[1]);
  check(detail::linear_rows("linear_backward_data", dy, w[0]) == m, "linear_backward_data: dy ", dy.shape(),
        " and dx ", dx.shape(), " differ in rows");
  detail::check_optional("linear_backward_data", "add", add, dx.shape());
  launch(dx.device(), LinearBackwardData<T>{dy.data(), weight.data(), prepared.data(), dx.data(), m,
                                            static_cast<int>(w[1]), static_cast<int>(w[0]), add.data()});
  detail::check_outputs("linear_backward_data", dx);
}

// dweight += the gradient for the weight; dbias, unless empty, += that for the bias.
template <class T, Device D>
void linear_backward_weight(const TensorView<T, D>& x, const TensorView<T, D>& dy,
                            const TensorView<Accumulator<T>, D>& dweight,
                            const TensorView<Accumulator<T>, D>& dbias = {}) {
  const Shape& w = dweight.shape();
  check(w.rank() == 2, "linear_backward_weight: dweight must be [Out, In], found ", w);
  const std::int64_t m = detail::linear_rows("linear_backward_weight", x, w[1]);
  check(detail::linear_rows("linear_backward_weight", dy, w[0]) == m, "linear_backward_weight: x ", x.shape(),
        " and dy ", dy.shape(), " differ in rows");
  detail::check_optional("linear_backward_weight", "dbias", dbias, {w[0]});
  launch(dweight.device(),
         LinearBackwardWeight<T>{x.data(), dy.data(), dweight.data(), m, static_cast<int>(w[1]),
                                 static_cast<int>(w[0]), dbias.data()});
  detail::check_outputs("linear_backward_weight", dweight, dbias);
}

}  // namespace ddpm
