// SPDX-License-Identifier: MIT
// Linear: a linear layer with bias. The op: ddpm/ops/linear.hpp.
#pragma once

#include <ddpm/nn/parameter.hpp>
#include <ddpm/ops/linear.hpp>

namespace ddpm {

template <Element T, Device D>
class Linear {
 public:
  using View = TensorView<T, D>;

  // Borrows the input: keep x until backward.
  struct Cache {
    View x;
  };

  Parameter<T, D> weight;  // [Out, In]
  Parameter<T, D> bias;    // [Out]

  Linear(ParameterBuffer<T, D>& parameters, int in, int out)
      : Linear(parameters, {out, in}, Initializer::fan_average(in, out)) {}
  Linear(ParameterBuffer<T, D>& parameters, const Shape& shape, const Initializer& initializer)
      : weight(parameters.add(shape, initializer)), bias(parameters.add({shape[0]}, Initializer::zeros())) {}

  // y = scale * (x W^T + b + residual); the last axis of x is In, that of y Out.
  void run(const View& x, const View& y, const View& residual = {}, double scale = 1) const {
    linear<T, D>({.x = x,
                  .weight = weight.operand(),
                  .prepared = prepared(forward_weight_, x.numel(), Conv2dPass::forward),
                  .bias = bias.value(),
                  .residual = residual,
                  .scale = scale},
                 y);
  }

  // For x [N, In].
  Tensor<T, D> operator()(const View& x) const {
    Tensor<T, D> y(x.device(), {x.shape()[0], weight.shape()[0]});
    run(x, y);
    return y;
  }

  Tensor<T, D> forward(const View& x, Cache& cache) const {
    cache = {x};
    return (*this)(x);
  }

  void backward_parameters(const View& dy, const Cache& cache) const {
    linear_backward_weight(cache.x, dy, weight.gradient(), bias.gradient());
  }

  // dx = the gradient for x, plus `add` unless empty, which may be dx.
  void backward_data(const View& dy, const View& dx, const View& add = {}) const {
    linear_backward_data(dy, weight.operand(),
                         prepared(backward_weight_, dx.numel(), Conv2dPass::backward_data), dx, add);
  }

  Tensor<T, D> backward(const View& dy, const Cache& cache) const {
    backward_parameters(dy, cache);
    Tensor<T, D> dx(dy.device(), cache.x.shape());
    backward_data(dy, dx);
    return dx;
  }

  template <class F>
  void visit(const std::string& prefix, F&& f) const {
    f(prefix + "weight", weight);
    f(prefix + "bias", bias);
  }

 private:
  View prepared(PreparedWeight<T, D>& copy, std::int64_t elements, Conv2dPass pass) const {
    const auto in = static_cast<int>(weight.shape()[1]), out = static_cast<int>(weight.shape()[0]);
    return copy.get(weight, linear_geometry(elements / in, in, out), pass);
  }

  mutable PreparedWeight<T, D> forward_weight_, backward_weight_;
};

}  // namespace ddpm
