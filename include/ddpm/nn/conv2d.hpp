// SPDX-License-Identifier: MIT
// Conv2d: a convolution layer with bias. The op: ddpm/ops/conv2d.hpp.
#pragma once

#include <ddpm/nn/parameter.hpp>

namespace ddpm {

struct Conv2dConfig {
  int in, out;
  int kernel = 3;
  Conv2dOptions options = {};
  double init_scale = 1;  // Initializer::nearly_zero for the last layer of a residual branch
};

template <Element T, Device D>
class Conv2d {
 public:
  using View = TensorView<T, D>;
  using Moments = ChannelMoments<Accumulator<T>>;

  // Borrows the input: keep x (and x2) until backward.
  struct Cache {
    View x, x2;
  };

  // What the layer reads and adds on the way, see ddpm/ops/conv2d.hpp; all but x may be left out.
  struct Input {
    View x;
    View x2 = {};
    View add = {};
    View residual = {};
    double scale = 1;
    TensorView<Moments, D> moments = {};  // of the output, written
  };

  Parameter<T, D> weight;  // [Cout, K, K, Cin]
  Parameter<T, D> bias;    // [Cout]
  Conv2dOptions options;

  Conv2d(ParameterBuffer<T, D>& parameters, const Conv2dConfig& config)
      : weight(parameters.add({config.out, config.kernel, config.kernel, config.in},
                              Initializer::fan_average(config.in, config.out, config.kernel * config.kernel,
                                                       config.init_scale))),
        bias(parameters.add({config.out}, Initializer::zeros())),
        options(config.options) {}

  Tensor<T, D> operator()(const Input& in) const {
    Conv2dOptions scaled = options;
    scaled.scale = in.scale;
    const Conv2dGeometry s = conv2d_geometry(in.x, in.x2, weight.shape(), options);
    Tensor<T, D> y(in.x.device(), {s.n, s.p, s.q, s.cout});
    conv2d<T, D>({.x = in.x,
                  .x2 = in.x2,
                  .weight = weight.operand(),
                  .prepared = forward_weight_.get(weight, s, Conv2dPass::forward),
                  .bias = bias.value(),
                  .add = in.add,
                  .residual = in.residual},
                 scaled, y, in.moments);
    return y;
  }

  // Room for in.moments; empty where they would cost the device more than they save.
  Tensor<Moments, D> make_moments(const Input& in) const {
    const Conv2dGeometry s = conv2d_geometry(in.x, in.x2, weight.shape(), options);
    if (!conv2d_gives_moments<T>(in.x.device(), s)) return {};
    return {in.x.device(), {s.n, moments_slabs(s.p * s.q), s.cout}};
  }

  Tensor<T, D> forward(const Input& in, Cache& cache) const {
    cache = {in.x, in.x2};
    return (*this)(in);
  }

  // Adds to the gradients of weight and bias; dy already carries the forward's scale.
  void backward_parameters(const View& dy, const Cache& cache) const {
    conv2d_backward_weight<T, D>({.dy = dy, .x = cache.x, .x2 = cache.x2}, options, weight.gradient(),
                                 bias.gradient());
  }

  // dx (and dx2, unless empty) = the gradient for the input, plus `add` unless empty, not together with dx2.
  void backward_data(const View& dy, const View& dx, const View& dx2 = {}, const View& add = {}) const {
    const Conv2dGeometry s = conv2d_geometry(dx, dx2, weight.shape(), options);
    conv2d_backward_data<T, D>({.dy = dy,
                                .weight = weight.operand(),
                                .prepared = backward_weight_.get(weight, s, Conv2dPass::backward_data),
                                .add = add},
                               options, dx, dx2);
  }

  Tensor<T, D> backward(const View& dy, const Cache& cache, const View& add = {}) const {
    backward_parameters(dy, cache);
    Tensor<T, D> dx(dy.device(), cache.x.shape());
    backward_data(dy, dx, {}, add);
    return dx;
  }

  template <class F>
  void visit(const std::string& prefix, F&& f) const {
    f(prefix + "weight", weight);
    f(prefix + "bias", bias);
  }

 private:
  mutable PreparedWeight<T, D> forward_weight_, backward_weight_;
};

}  // namespace ddpm
