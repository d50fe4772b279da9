// SPDX-License-Identifier: MIT
// TimeEmbeddingMlp: linear_1, SiLU, linear_2 on the sinusoidal embedding, diffusers' TimestepEmbedding.
#pragma once

#include <ddpm/nn/linear.hpp>
#include <ddpm/ops/activation.hpp>

namespace ddpm {

template <Element T, Device D>
class TimeEmbeddingMlp {
 public:
  using View = TensorView<T, D>;

  // Borrows x.
  struct Cache {
    View x;
    Tensor<T, D> hidden, activated;
  };

  Linear<T, D> linear_1;
  Linear<T, D> linear_2;

  TimeEmbeddingMlp(ParameterBuffer<T, D>& parameters, int in, int out)
      : linear_1(parameters, in, out), linear_2(parameters, out, out) {}

  Tensor<T, D> forward(const View& x, Cache& cache) const {
    cache.x = x;
    cache.hidden = linear_1(x);
    cache.activated = Tensor<T, D>(x.device(), cache.hidden.shape());
    silu<T, D>(cache.hidden, cache.activated);
    return linear_2(cache.activated);
  }

  // dx may be empty.
  void backward(const View& dy, const Cache& cache, const View& dx = {}) const {
    const Tensor<T, D> dhidden = linear_2.backward(dy, {cache.activated});
    silu_backward<T, D>(cache.hidden, dhidden, dhidden);
    linear_1.backward_parameters(dhidden, {cache.x});
    if (!dx.empty()) linear_1.backward_data(dhidden, dx);
  }

  template <class F>
  void visit(const std::string& prefix, F&& f) const {
    linear_1.visit(prefix + "linear_1.", f);
    linear_2.visit(prefix + "linear_2.", f);
  }
};

}  // namespace ddpm
