// SPDX-License-Identifier: MIT
// Fixtures of single ops and layers: out and grad_* for the stored inputs and grad_out.
#pragma once

#include "checker.hpp"

namespace golden {

using namespace ddpm;

template <class D>
void check_conv(const Fixture<D>& f) {
  const auto x = f.tensor("x"), weight = f.tensor("weight"), bias = f.tensor("bias"),
             dy = f.tensor("grad_out");
  const bool asymmetric = f.meta("asymmetric_pad", "false") == "true";
  const int padding = static_cast<int>(f.number("padding", 1));
  Conv2dOptions options{.stride = static_cast<int>(f.number("stride", 1))};
  options.pad_begin = asymmetric ? 0 : padding;
  options.pad_end = asymmetric ? 1 : padding;
  Tensor<float, D> y(f.device(), f.shape("out")), dx(f.device(), x.shape());
  auto dweight = Tensor<float, D>::zeros(f.device(), weight.shape()),
       dbias = Tensor<float, D>::zeros(f.device(), bias.shape());
  conv2d<float, D>({.x = x, .weight = weight, .bias = bias}, options, y);
  conv2d_backward_data<float, D>({.dy = dy, .weight = weight}, options, dx, {});
  conv2d_backward_weight<float, D>({.dy = dy, .x = x}, options, dweight, dbias);
  f.compare("out", y, f.limits().op);
  f.compare("grad_x", dx, f.limits().op);
  f.compare("grad_weight", dweight, f.limits().op);
  f.compare("grad_bias", dbias, f.limits().op);
}

// Whether some group's mean exceeds 4 of its standard deviations.
template <class D>
bool is_off_centre(const Fixture<D>& f, int groups) {
  const auto x = f.values("x");
  const std::size_t per_group = x.size() / static_cast<std::size_t>(f.shape("x")[0] * groups);
  for (std::size_t first = 0; first < x.size(); first += per_group) {
    double sum = 0, squares = 0;
    for (std::size_t i = first; i < first + per_group; ++i) sum += x[i];
    const double mean = sum / double(per_group);
    for (std::size_t i = first; i < first + per_group; ++i) squares += (x[i] - mean) * (x[i] - mean);
    if (std::abs(mean) > 4 * std::sqrt(squares / double(per_group))) return true;
  }
  return false;
}

template <class D>
void check_group_norm(const Fixture<D>& f) {
  const auto x = f.tensor("x"), gamma = f.tensor("weight"), beta = f.tensor("bias"),
             dy = f.tensor("grad_out");
  const int groups = static_cast<int>(f.number("groups", 32));
  const GroupNormOptions options{groups, f.number("eps", 1e-5),
                                 f.meta("silu", "false") == "true" ? Activation::silu : Activation::none};
  const D& device = f.device();
  Tensor<float, D> y(device, x.shape()), dx(device, x.shape());
  Tensor<float, D> mean(device, {x.shape()[0], groups}), rstd(device, mean.shape());
  auto dgamma = Tensor<float, D>::zeros(device, gamma.shape()),
       dbeta = Tensor<float, D>::zeros(device, beta.shape());
  const GroupNormOperands<float, D> in{.x = x, .gamma = gamma, .beta = beta};
  group_norm<float, D>(in, options, y, {mean, rstd});
  group_norm_backward<float, D>(dy, in, options, {mean, rstd}, {.dx = dx, .dgamma = dgamma, .dbeta = dbeta});
  const double limit = is_off_centre(f, groups) ? f.limits().off_centre_norm : f.limits().op;
  f.compare("out", y, limit);
  f.compare("grad_x", dx, limit);
  f.compare("grad_weight", dgamma, limit);
  f.compare("grad_bias", dbeta, limit);
}

template <class D>
void check_linear(const Fixture<D>& f) {
  const auto x = f.tensor("x"), weight = f.tensor("weight"), bias = f.tensor("bias"),
             dy = f.tensor("grad_out");
  Tensor<float, D> y(f.device(), f.shape("out")), dx(f.device(), x.shape());
  auto dweight = Tensor<float, D>::zeros(f.device(), weight.shape()),
       dbias = Tensor<float, D>::zeros(f.device(), bias.shape());
  linear<float, D>({.x = x, .weight = weight, .bias = bias}, y);
  linear_backward_data<float, D>(dy, weight, {}, dx);
  linear_backward_weight<float, D>(x, dy, dweight, dbias);
  f.compare("out", y, f.limits().op);
  f.compare("grad_x", dx, f.limits().op);
  f.compare("grad_weight", dweight, f.limits().op);
  f.compare("grad_bias", dbias, f.limits().op);
}

template <class D>
void check_pointwise(const Fixture<D>& f) {
  const std::string kind = f.path().stem().string();
  const auto x = f.tensor("x"), dy = f.tensor("grad_out");
  Tensor<float, D> y(f.device(), f.shape("out")), dx(f.device(), x.shape());
  if (kind.starts_with("silu")) {
    silu<float, D>(x, y);
    silu_backward<float, D>(x, dy, dx);
  } else if (kind.starts_with("softmax")) {
    softmax<float, D>(x, y);
    softmax_backward<float, D>(y, dy, dx);
  } else {
    upsample_nearest<float, D>(x, y);
    upsample_nearest_backward<float, D>(dy, dx);
  }
  f.compare("out", y, f.limits().op);
  f.compare("grad_x", dx, f.limits().op);
}

template <class D>
void check_attention(const Fixture<D>& f) {
  const auto x = f.tensor("x"), dy = f.tensor("grad_out");
  const int channels = static_cast<int>(x.shape()[3]), heads = static_cast<int>(f.number("heads", 1));
  ParameterBuffer<float, D> parameters(f.device());
  AttentionBlock<float, D> block(parameters, {.channels = channels,
                                              .head_dim = channels / heads,
                                              .groups = static_cast<int>(f.number("groups", 32)),
                                              .eps = f.number("eps", 1e-5),
                                              .rescale = f.number("rescale_output_factor", 1)});
  parameters.allocate();
  parameters.enable_gradients();
  f.load(block);
  typename AttentionBlock<float, D>::Cache cache;
  f.compare("out", block.forward(x, cache), f.limits().op);
  f.compare("grad_x", block.backward(dy, cache), f.limits().op);
  f.compare_gradients(block, "", "grad_", f.limits().op);
}

template <class D>
void check_resnet(const Fixture<D>& f) {
  const auto x = f.tensor("x"), temb = f.tensor("temb"), dy = f.tensor("grad_out");
  const bool scale_shift = f.meta("time_embedding_norm", "default") == "scale_shift";
  ParameterBuffer<float, D> parameters(f.device());
  ResnetBlock<float, D> block(
      parameters, {.in = static_cast<int>(x.shape()[3]),
                   .out = static_cast<int>(f.shape("out")[3]),
                   .time_embedding_dim = static_cast<int>(temb.shape()[1]),
                   .groups = static_cast<int>(f.number("groups", 32)),
                   .eps = f.number("eps", 1e-5),
                   .time_scale_shift = scale_shift ? TimeScaleShift::scale_shift : TimeScaleShift::add,
                   .rescale = f.number("output_scale_factor", 1)});
  parameters.allocate();
  parameters.enable_gradients();
  f.load(block);
  Tensor<float, D> activated(f.device(), temb.shape()), dx(f.device(), x.shape()),
      dtemb(f.device(), temb.shape());
  silu<float, D>(temb, activated);
  auto dactivated = Tensor<float, D>::zeros(f.device(), temb.shape());
  typename ResnetBlock<float, D>::Cache cache;
  f.compare("out", block.forward({.x = x, .temb = activated}, cache), f.limits().op);
  block.backward(dy, cache, {.dx = dx, .dtemb = dactivated});
  silu_backward<float, D>(temb, dactivated, dtemb);
  f.compare("grad_x", dx, f.limits().op);
  f.compare("grad_temb", dtemb, f.limits().op);
  f.compare_gradients(block, "", "grad_", f.limits().op);
}

template <class D>
void check_timestep_mlp(const Fixture<D>& f) {
  const auto x = f.tensor("x"), dy = f.tensor("grad_out");
  ParameterBuffer<float, D> parameters(f.device());
  TimeEmbeddingMlp<float, D> mlp(parameters, static_cast<int>(x.shape()[1]),
                                 static_cast<int>(f.shape("out")[1]));
  parameters.allocate();
  parameters.enable_gradients();
  f.load(mlp);
  typename TimeEmbeddingMlp<float, D>::Cache cache;
  Tensor<float, D> dx(f.device(), x.shape());
  f.compare("out", mlp.forward(x, cache), f.limits().op);
  mlp.backward(dy, cache, dx);
  f.compare("grad_x", dx, f.limits().op);
  f.compare_gradients(mlp, "", "grad_", f.limits().op);
}

// Upsample2D and Downsample2D: one convolution.
template <class D>
void check_resampler(const Fixture<D>& f) {
  const std::string kind = f.path().stem().string();
  const auto x = f.tensor("x"), dy = f.tensor("grad_out");
  Conv2dOptions options{.upsample = 2};
  if (kind.starts_with("downsample")) {
    const bool padded = f.number("padding", kind.find("pad0") == std::string::npos ? 1 : 0) != 0;
    options = {.stride = 2, .pad_begin = padded ? 1 : 0, .pad_end = 1};
  }
  ParameterBuffer<float, D> parameters(f.device());
  Conv2d<float, D> conv(
      parameters,
      {.in = static_cast<int>(x.shape()[3]), .out = static_cast<int>(f.shape("out")[3]), .options = options});
  parameters.allocate();
  parameters.enable_gradients();
  f.load(conv, "conv.");
  typename Conv2d<float, D>::Cache cache;
  f.compare("out", conv.forward({.x = x}, cache), f.limits().op);
  f.compare("grad_x", conv.backward(dy, cache), f.limits().op);
  f.compare_gradients(conv, "conv.", "grad_", f.limits().op);
}

// Tensors emb_dim<D>_flip<0|1>_shift<0|1>, in float32 as the peer, and *_exact from float64.
template <class D>
void check_timestep_embedding(const Fixture<D>& f) {
  const auto t = f.integers("timesteps");
  for (const std::string& name : f.file().names()) {
    int dim = 0, flip = 0;
    double shift = 0;
    if (std::sscanf(name.c_str(), "emb_dim%d_flip%d_shift%lf", &dim, &flip, &shift) != 3) continue;
    const TimestepEmbeddingOptions options{flip != 0, shift};
    const bool exact = name.ends_with("_exact");
    if constexpr (std::same_as<D, Reference>) {
      if (exact) {
        Tensor<double, D> y(f.device(), {t.numel(), dim});
        timestep_embedding<double, D>(t, options, y);
        f.compare(name, y, f.limits().op);
        continue;
      }
    }
    Tensor<float, D> y(f.device(), {t.numel(), dim});
    timestep_embedding<float, D>(t, options, y);
    f.compare(name, y, exact ? f.limits().rounded_angle : f.limits().op);
  }
}

}  // namespace golden
