// SPDX-License-Identifier: MIT
// Convolution on the host: chooses the algorithm. Math and parameters: ddpm/ops/conv2d.hpp.
//
// Cpu::convolution   3x3, stride 1, enough channels   everything else   largest error / largest output
//   exact            direct                           direct            2e-6
//   automatic        Winograd F(4x4) or F(2x2)        direct            4e-6
//   fast             Winograd F(4x4)                  direct            8e-6 (with 1536 channels)
// (measured with normal numbers and, else, up to 512 channels). Images of one tile are left to F(2x2).
// An enlarged image is convolved directly by folded kernels, which also takes 4/9 of the multiplications, where
// F(4x4) does not serve; its backward data always is.
//
// Prepared weights hold for one geometry (the batch size aside), one pass and one device value.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>

#include <ddpm/core/device.hpp>
#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/conv2d.hpp>
#include <ddpm/ops/cpu/implicit_gemm.hpp>
#include <ddpm/ops/cpu/packed_weights.hpp>
#include <ddpm/ops/cpu/reduce.hpp>
#include <ddpm/ops/cpu/weight_gradient.hpp>
#include <ddpm/ops/cpu/winograd.hpp>
#include <ddpm/ops/cpu/winograd_weight_gradient.hpp>

namespace ddpm {

namespace detail::cpu {

struct InitTag;

// What every sum of a sample starts from, bias + add, padded to whole panels: [samples or 1, stride].
inline Epilogue make_epilogue(const Conv2dForward<float>& p) {
  const int cout = p.shape.cout, stride = round_up(cout, panel_width()), samples = p.add ? p.shape.n : 1;
  float* init = thread_scratch<InitTag>(static_cast<std::size_t>(samples) * static_cast<unsigned>(stride));
  for (std::int64_t n = 0; n < samples; ++n)
    for (int o = 0; o < stride; ++o)
      init[n * stride + o] =
          o < cout ? (p.bias ? p.bias[o] : 0.0f) + (p.add ? p.add[n * cout + o] : 0.0f) : 0.0f;
  return {init, p.add ? stride : 0, p.residual, p.scale};
}

inline Epilogue make_epilogue(const Conv2dBackwardData<float>& p) {
  const int stride = round_up(p.shape.channels(), panel_width());
  float* init = thread_scratch<InitTag>(static_cast<std::size_t>(stride));
  fill_zero(init, stride);
  return {init, 0, p.add, 1.0f};
}

enum class Algorithm { direct, winograd_f2, winograd_f4 };

// Below so many channels the transforms cost more than they save.
constexpr int winograd_channels = 16, winograd_gradient_channels = 24;

// F(4x4) loses more to rounding than automatic allows where a sum is of few channels, which average out little of
// it, or of very many. A weight gradient is a sum over tiles instead, and loses less.
constexpr int least_f4_channels = 64, most_f4_channels = 512;

// F(4x4) needs an image larger than one tile to be quicker.
inline Algorithm choose_winograd(int rows, int columns) {
  return std::min(rows, columns) > WinogradF4::outputs ? Algorithm::winograd_f4 : Algorithm::winograd_f2;
}

// How a pass of a shape is computed, whatever the batch size.
struct Method {
  Algorithm algorithm;
  Correlation correlation;
};

// The images as if they were stored enlarged.
inline Correlation enlarged(Correlation c) {
  c.shape.h *= c.shape.upsample;
  c.shape.w *= c.shape.upsample;
  c.shape.upsample = 1;
  return c;
}

inline Algorithm choose_algorithm(const Cpu& device, const Correlation& c) {
  const int channels = c.inputs();
  if (device.convolution == Cpu::Convolution::exact || !WinogradWeights<WinogradF2>::supports(c) ||
      std::min(channels, c.outputs(0)) < winograd_channels)
    return Algorithm::direct;
  if (device.convolution == Cpu::Convolution::automatic &&
      (channels < least_f4_channels || channels > most_f4_channels))
    return Algorithm::winograd_f2;
  return choose_winograd(c.rows().outputs, c.columns().outputs);
}

inline Method choose_method(const Cpu& device, const Conv2dGeometry& shape, Conv2dPass pass) {
  const Correlation c{shape, pass};
  if (c.forward() && choose_algorithm(device, enlarged(c)) == Algorithm::winograd_f4)
    return {Algorithm::winograd_f4, enlarged(c)};
  return {choose_algorithm(device, c), c};
}

inline Algorithm choose_gradient_algorithm(const Cpu& device, const Conv2dGeometry& g) {
  if (device.convolution == Cpu::Convolution::exact || !WinogradWeightGradient<WinogradF2>::supports(g) ||
      std::min(g.channels(), g.cout) < winograd_gradient_channels)
    return Algorithm::direct;
  return choose_winograd(g.p, g.q);
}

// Calls use(weights) with the layout in which the algorithm reads them.
template <class Use>
auto with_weights(const Method& method, Use use) {
  const PackedWeights direct{method.correlation};
  if (method.algorithm == Algorithm::winograd_f2) return use(WinogradWeights<WinogradF2>{direct});
  if (method.algorithm == Algorithm::winograd_f4) return use(WinogradWeights<WinogradF4>{direct});
  return use(direct);
}

// All that a correlation reads and writes.
struct CorrelationCall {
  const float *weight, *prepared;
  Images images;
  float* out[2];
  Epilogue epilogue;
};

inline ImplicitGemm make_kernel(const PackedWeights& weights, const CorrelationCall& call) {
  return {weights, call.images, {call.out[0], call.out[1]}, call.epilogue};
}
template <class F>
Winograd<F> make_kernel(const WinogradWeights<F>& weights, const CorrelationCall& call) {
  return {weights.weights, call.images, {call.out[0], call.out[1]}, call.epilogue};
}

inline void run(const Method& method, const CorrelationCall& call) {
  with_weights(method,
               [&call](const auto& weights) { make_kernel(weights, call).run(call.weight, call.prepared); });
}

inline void run(const Method& method, const Conv2dForward<float>& p) {
  const Conv2dGeometry& g = p.shape;
  const Images images{p.x, p.x2, g.h, g.w, g.c, g.c2, g.upsample / method.correlation.shape.upsample};
  run(method, CorrelationCall{p.weight, p.prepared, images, {p.y, nullptr}, make_epilogue(p)});
}

inline void run(const Method& method, const Conv2dBackwardData<float>& p) {
  const Conv2dGeometry& g = p.shape;
  const Images images{p.dy, nullptr, g.p, g.q, g.cout, 0, 1};
  run(method, CorrelationCall{p.weight, p.prepared, images, {p.dx, p.dx2}, make_epilogue(p)});
}

inline void run(Algorithm algorithm, const Conv2dBackwardWeight<float>& p) {
  const Conv2dGeometry& g = p.shape;
  if (g.pixels() == 0) return;
  const Images x{p.x, p.x2, g.h, g.w, g.c, g.c2, g.upsample};
  if (algorithm == Algorithm::winograd_f2)
    WinogradWeightGradient<WinogradF2>(g, x, p.dy).run(p.dweight);
  else if (algorithm == Algorithm::winograd_f4)
    WinogradWeightGradient<WinogradF4>(g, x, p.dy).run(p.dweight);
  else
    WeightGradient(g, x, p.dy).run(p.dweight);
}

}  // namespace detail::cpu

template <std::same_as<float> T>
std::int64_t conv2d_prepared_size(const Cpu& device, const Conv2dGeometry& shape, Conv2dPass pass) {
  using namespace detail::cpu;
  return with_weights(choose_method(device, shape, pass), [](const auto& weights) { return weights.size(); });
}

template <std::same_as<float> T>
void launch(const Cpu& device, const Conv2dPrepare<T>& p) {
  using namespace detail::cpu;
  with_weights(choose_method(device, p.shape, p.pass),
               [&p](const auto& weights) { weights.pack(p.weight, p.prepared); });
}

template <std::same_as<float> T>
void launch(const Cpu& device, const Conv2dForward<T>& p) {
  detail::cpu::run(detail::cpu::choose_method(device, p.shape, Conv2dPass::forward), p);
  if (p.moments) channel_moments(p.y, p.shape.n, p.shape.p * p.shape.q, p.shape.cout, p.moments);
}

template <std::same_as<float> T>
void launch(const Cpu& device, const Conv2dBackwardData<T>& p) {
  detail::cpu::run(detail::cpu::choose_method(device, p.shape, Conv2dPass::backward_data), p);
}

template <std::same_as<float> T>
void launch(const Cpu& device, const Conv2dBackwardWeight<T>& p) {
  detail::cpu::run(detail::cpu::choose_gradient_algorithm(device, p.shape), p);
  if (p.dbias) detail::cpu::add_bias_gradient(p.dy, p.shape.pixels(), p.shape.cout, p.dbias);
}

}  // namespace ddpm
