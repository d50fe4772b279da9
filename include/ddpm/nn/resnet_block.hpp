// SPDX-License-Identifier: MIT
// ResnetBlock: two normalised convolutions around the time embedding, diffusers' ResnetBlock2D.
//
//   h = conv1(silu(norm1(x)));  t = time_emb_proj(temb), temb already past its SiLU
//   add:          h = conv2(dropout(silu(norm2(h + t))))
//   scale_shift:  h = conv2(dropout(silu(norm2(h) * (1 + scale) + shift))),  scale | shift = t
//   y = (shortcut(x) + h) / rescale, shortcut = conv_shortcut (1x1) where the channels change, else the
//   identity
#pragma once

#include <optional>

#include <ddpm/nn/conv2d.hpp>
#include <ddpm/nn/group_norm.hpp>
#include <ddpm/nn/linear.hpp>
#include <ddpm/nn/time_scale_shift.hpp>
#include <ddpm/ops/elementwise.hpp>

namespace ddpm {

struct ResnetConfig {
  int in, out;
  int time_embedding_dim;
  int groups;
  double eps = 1e-5;
  double dropout = 0;
  TimeScaleShift time_scale_shift = TimeScaleShift::add;
  double rescale = 1;
};

template <Element T, Device D>
class ResnetBlock {
 public:
  using View = TensorView<T, D>;

  // x, and x2 where the block's input is two tensors joined along their channels.
  struct Input {
    View x;
    View x2 = {};
    View temb;                                                      // [N, TimeEmbeddingDim]
    RandomPosition dropout = {};                                    // of this block
    bool training = false;                                          // dropout is used
    typename GroupNorm<T, D>::Moments moments = {}, moments2 = {};  // of x and x2, or empty
  };

  // Borrows the input.
  struct Cache {
    Input in;
    typename GroupNorm<T, D>::Cache norm1, norm2;
    Tensor<T, D> normalised1, projected, hidden, normalised2;
    Tensor<typename Conv2d<T, D>::Moments, D> moments;  // of the output, where conv2 leaves them
  };

  // Where backward() writes; dtemb is added to, and `add`, unless empty, to dx.
  struct Gradients {
    View dx;
    View dx2 = {};
    View dtemb;
    View add = {};
  };

  GroupNorm<T, D> norm1;
  Conv2d<T, D> conv1;
  Linear<T, D> time_emb_proj;
  GroupNorm<T, D> norm2;
  Conv2d<T, D> conv2;
  std::optional<Conv2d<T, D>> conv_shortcut;
  ResnetConfig config;

  ResnetBlock(ParameterBuffer<T, D>& parameters, const ResnetConfig& c)
      : norm1(parameters, c.in, {c.groups, c.eps, Activation::silu}),
        conv1(parameters, {c.in, c.out}),
        time_emb_proj(parameters, c.time_embedding_dim,
                      c.time_scale_shift == TimeScaleShift::add ? c.out : 2 * c.out),
        norm2(parameters, c.out, {c.groups, c.eps, Activation::silu}),
        conv2(parameters, {.in = c.out, .out = c.out, .init_scale = Initializer::nearly_zero}),
        config(c) {
    if (c.in != c.out)
      conv_shortcut.emplace(
          parameters,
          Conv2dConfig{.in = c.in, .out = c.out, .kernel = 1, .options = {.pad_begin = 0, .pad_end = 0}});
  }

  Tensor<T, D> forward(const Input& in, Cache& cache) const {
    cache.in = in;
    cache.normalised1 =
        norm1.forward({.x = in.x, .x2 = in.x2, .moments = in.moments, .moments2 = in.moments2}, cache.norm1);
    cache.projected = time_emb_proj(in.temb);
    const bool adds = config.time_scale_shift == TimeScaleShift::add;
    typename Conv2d<T, D>::Input first{.x = cache.normalised1, .add = adds ? cache.projected.view() : View{}};
    const auto hidden_moments = conv1.make_moments(first);
    first.moments = hidden_moments;
    cache.hidden = conv1(first);
    cache.normalised2 = norm2.forward(
        {.x = cache.hidden, .scale_shift = adds ? View{} : cache.projected.view(), .moments = hidden_moments},
        cache.norm2);
    if (drops(in)) dropout(cache.normalised2.view(), config.dropout, in.dropout, cache.normalised2.view());
    Tensor<T, D> shortcut;
    View residual = in.x;
    if (conv_shortcut) {
      shortcut = (*conv_shortcut)({.x = in.x, .x2 = in.x2});
      residual = shortcut;
    } else if (!in.x2.empty()) {
      const Shape& s = in.x.shape();
      shortcut = Tensor<T, D>(in.x.device(), {s[0], s[1], s[2], config.out});
      concat(in.x, in.x2, shortcut.view());
      residual = shortcut;
    }
    typename Conv2d<T, D>::Input second{
        .x = cache.normalised2, .residual = residual, .scale = 1 / config.rescale};
    cache.moments = conv2.make_moments(second);
    second.moments = cache.moments;
    return conv2(second);
  }

  Tensor<T, D> operator()(const Input& in) const {
    Cache cache;
    return forward(in, cache);
  }

  void backward(const View& dy, const Cache& cache, const Gradients& out) const {
    const D& device = dy.device();
    Tensor<T, D> rescaled;
    if (config.rescale != 1) {
      rescaled = Tensor<T, D>(device, dy.shape());
      affine(dy, 1 / config.rescale, 0, rescaled.view());
    }
    const View& dout = config.rescale != 1 ? rescaled.view() : dy;

    Tensor<T, D> dhidden = backward_second(dout, cache, out.dtemb);
    Tensor<T, D> dnormalised(device, cache.normalised1.shape());
    conv1.backward_data(dhidden, dnormalised);
    dhidden = {};
    backward_shortcut(dout, cache, out);
    const bool identity = !conv_shortcut && cache.in.x2.empty();
    norm1.backward(
        dnormalised, cache.norm1,
        {.add = identity ? dout : out.dx, .add2 = out.dx2, .also = out.add, .dx = out.dx, .dx2 = out.dx2});
  }

  template <class F>
  void visit(const std::string& prefix, F&& f) const {
    norm1.visit(prefix + "norm1.", f);
    conv1.visit(prefix + "conv1.", f);
    time_emb_proj.visit(prefix + "time_emb_proj.", f);
    norm2.visit(prefix + "norm2.", f);
    conv2.visit(prefix + "conv2.", f);
    if (conv_shortcut) conv_shortcut->visit(prefix + "conv_shortcut.", f);
  }

 private:
  bool drops(const Input& in) const { return in.training && config.dropout > 0; }

  // From the block's output back to that of conv1, the time projection and conv1's parameters included.
  Tensor<T, D> backward_second(const View& dout, const Cache& cache, const View& dtemb) const {
    const D& device = dout.device();
    conv2.backward_parameters(dout, {cache.normalised2, {}});
    Tensor<T, D> dnormalised(device, cache.normalised2.shape());
    conv2.backward_data(dout, dnormalised);
    if (drops(cache.in)) dropout(dnormalised.view(), config.dropout, cache.in.dropout, dnormalised.view());

    const bool adds = config.time_scale_shift == TimeScaleShift::add;
    Tensor<T, D> dhidden(device, cache.hidden.shape());
    Tensor<T, D> dprojected(device, cache.projected.shape());
    norm2.backward(dnormalised, cache.norm2,
                   {.dx = dhidden,
                    .dscale_shift = adds ? View{} : dprojected.view(),
                    .dx_sums = adds ? dprojected.view() : View{}});
    conv1.backward_parameters(dhidden, {cache.normalised1, {}});

    time_emb_proj.backward_parameters(dprojected, {cache.in.temb});
    time_emb_proj.backward_data(dprojected, dtemb, dtemb);
    return dhidden;
  }

  // The shortcut's share of dx and dx2, which norm1's backward adds to; nothing to do for a plain identity.
  void backward_shortcut(const View& dout, const Cache& cache, const Gradients& out) const {
    if (conv_shortcut) {
      conv_shortcut->backward_parameters(dout, {cache.in.x, cache.in.x2});
      conv_shortcut->backward_data(dout, out.dx, out.dx2);
    } else if (!cache.in.x2.empty()) {
      split(dout, out.dx, out.dx2);
    }
  }
};

}  // namespace ddpm
