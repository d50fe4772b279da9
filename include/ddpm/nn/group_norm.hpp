// SPDX-License-Identifier: MIT
// GroupNorm: a group normalisation layer with its activation. The op: ddpm/ops/group_norm.hpp.
#pragma once

#include <ddpm/nn/parameter.hpp>
#include <ddpm/ops/group_norm.hpp>

namespace ddpm {

template <Element T, Device D>
class GroupNorm {
 public:
  using View = TensorView<T, D>;
  using Moments = TensorView<ChannelMoments<Accumulator<T>>, D>;

  // Borrows the input: keep x, x2 and scale_shift until backward.
  struct Cache {
    View x, x2, scale_shift;
    Tensor<Accumulator<T>, D> mean, rstd;
  };

  struct Input {
    View x;
    View x2 = {};
    View scale_shift = {};
    Moments moments = {}, moments2 = {};  // of x and x2, where their makers left them
  };

  Parameter<T, D> weight;  // [C], gamma
  Parameter<T, D> bias;    // [C], beta
  GroupNormOptions options;

  GroupNorm(ParameterBuffer<T, D>& parameters, int channels, const GroupNormOptions& norm)
      : weight(parameters.add({channels}, Initializer::ones())),
        bias(parameters.add({channels}, Initializer::zeros())),
        options(norm) {}

  Tensor<T, D> forward(const Input& in, Cache& cache) const {
    const Shape& s = in.x.shape();
    const D& device = in.x.device();
    cache.x = in.x;
    cache.x2 = in.x2;
    cache.scale_shift = in.scale_shift;
    cache.mean = Tensor<Accumulator<T>, D>(device, {s[0], options.groups});
    cache.rstd = Tensor<Accumulator<T>, D>(device, {s[0], options.groups});
    Tensor<T, D> y(device, {s[0], s[1], s[2], weight.shape()[0]});
    GroupNormOperands<T, D> with_moments = operands(cache);
    with_moments.moments = in.moments;
    with_moments.moments2 = in.moments2;
    group_norm<T, D>(with_moments, options, y, {cache.mean, cache.rstd});
    return y;
  }

  Tensor<T, D> operator()(const Input& in) const {
    Cache cache;
    return forward(in, cache);
  }

  // The gradients for the input go to `out`, whose dgamma and dbeta are set here; adds to those of weight and
  // bias.
  void backward(const View& dy, const Cache& cache, GroupNormGradients<T, D> out) const {
    out.dgamma = weight.gradient();
    out.dbeta = bias.gradient();
    group_norm_backward<T, D>(dy, operands(cache), options, {cache.mean, cache.rstd}, out);
  }

  template <class F>
  void visit(const std::string& prefix, F&& f) const {
    f(prefix + "weight", weight);
    f(prefix + "bias", bias);
  }

 private:
  GroupNormOperands<T, D> operands(const Cache& cache) const {
    return {.x = cache.x,
            .x2 = cache.x2,
            .gamma = weight.value(),
            .beta = bias.value(),
            .scale_shift = cache.scale_shift};
  }
};

}  // namespace ddpm
