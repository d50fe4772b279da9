// SPDX-License-Identifier: MIT
// AttentionBlock: y = (x + to_out(attention(to_q, to_k, to_v of group_norm(x)))) / rescale, diffusers'
// Attention.
#pragma once

#include <optional>

#include <ddpm/nn/group_norm.hpp>
#include <ddpm/nn/linear.hpp>
#include <ddpm/ops/attention.hpp>
#include <ddpm/ops/elementwise.hpp>

namespace ddpm {

struct AttentionConfig {
  int channels;
  int head_dim;  // divides channels
  int groups;    // 0: no normalisation
  double eps = 1e-5;
  double rescale = 1;
};

template <Element T, Device D>
class AttentionBlock {
 public:
  using View = TensorView<T, D>;

  // Borrows x.
  struct Cache {
    View x;
    typename GroupNorm<T, D>::Cache norm;
    Tensor<T, D> normalised;  // [N, H, W, C]
    Tensor<T, D> qkv;         // [N, L, 3 C]
    Tensor<T, D> attended;    // [N, L, C]
    Tensor<Accumulator<T>, D> logsumexp;
  };

  std::optional<GroupNorm<T, D>> group_norm;
  Linear<T, D> to_qkv;  // to_q, to_k and to_v, one after the other
  Linear<T, D> to_out;
  AttentionOptions options;
  double rescale;

  AttentionBlock(ParameterBuffer<T, D>& parameters, const AttentionConfig& config)
      : to_qkv(parameters, {3 * config.channels, config.channels},
               Initializer::fan_average(config.channels, config.channels)),
        to_out(parameters, {config.channels, config.channels},
               Initializer::fan_average(config.channels, config.channels, 1, Initializer::nearly_zero)),
        options{config.channels / config.head_dim, 1 / std::sqrt(double(config.head_dim))},
        rescale(config.rescale) {
    check<ConfigError>(config.head_dim > 0 && config.channels % config.head_dim == 0,
                       "attention: ", config.channels, " channels are not divisible by a head dimension of ",
                       config.head_dim);
    if (config.groups > 0)
      group_norm.emplace(parameters, config.channels,
                         GroupNormOptions{config.groups, config.eps, Activation::none});
  }

  Tensor<T, D> forward(const View& x, Cache& cache) const {
    const Shape& s = x.shape();
    const std::int64_t n = s[0], tokens = s[1] * s[2], channels = s[3];
    const D& device = x.device();
    cache.x = x;
    if (group_norm) cache.normalised = group_norm->forward({x}, cache.norm);
    cache.qkv = Tensor<T, D>(device, {n, tokens, 3 * channels});
    to_qkv.run(normalised(cache), cache.qkv);
    cache.attended = Tensor<T, D>(device, {n, tokens, channels});
    cache.logsumexp = Tensor<Accumulator<T>, D>(device, {n, options.heads, tokens});
    attention<T, D>(cache.qkv, options, cache.attended, cache.logsumexp);
    Tensor<T, D> y(device, s);
    to_out.run(cache.attended, y, x, 1 / rescale);
    return y;
  }

  Tensor<T, D> operator()(const View& x) const {
    Cache cache;
    return forward(x, cache);
  }

  Tensor<T, D> backward(const View& dy, const Cache& cache) const {
    const D& device = dy.device();
    Tensor<T, D> rescaled;
    if (rescale != 1) {
      rescaled = Tensor<T, D>(device, dy.shape());
      affine(dy, 1 / rescale, 0, rescaled.view());
    }
    const View& dout = rescale != 1 ? rescaled.view() : dy;
    to_out.backward_parameters(dout, {cache.attended});
    Tensor<T, D> dattended(device, cache.attended.shape());
    to_out.backward_data(dout, dattended);
    Tensor<T, D> dqkv(device, cache.qkv.shape());
    attention_backward<T, D>(dattended, {cache.qkv, cache.attended, cache.logsumexp}, options, dqkv);
    to_qkv.backward_parameters(dqkv, {normalised(cache)});
    Tensor<T, D> dx(device, cache.x.shape());
    if (group_norm) {
      Tensor<T, D> dnormalised(device, cache.x.shape());
      to_qkv.backward_data(dqkv, dnormalised);
      group_norm->backward(dnormalised, cache.norm, {.add = dout, .dx = dx});
    } else {
      to_qkv.backward_data(dqkv, dx, dout);
    }
    return dx;
  }

  template <class F>
  void visit(const std::string& prefix, F&& f) const {
    if (group_norm) group_norm->visit(prefix + "group_norm.", f);
    const std::int64_t channels = to_out.weight.shape()[0];
    const char* const names[] = {"to_q.", "to_k.", "to_v."};
    for (int i = 0; i < 3; ++i) {
      f(prefix + names[i] + "weight", to_qkv.weight.rows(i * channels, channels));
      f(prefix + names[i] + "bias", to_qkv.bias.rows(i * channels, channels));
    }
    to_out.visit(prefix + "to_out.0.", f);
  }

 private:
  View normalised(const Cache& cache) const { return group_norm ? cache.normalised.view() : cache.x; }
};

}  // namespace ddpm
