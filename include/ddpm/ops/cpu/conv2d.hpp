// SPDX-License-Identifier: MIT
// Convolution on the host: chooses the algorithm. Math and parameters: ddpm/ops/conv2d.hpp.
//
// Cpu::convolution: `exact` is direct convolution throughout.
//
// Prepared weights hold for one geometry (the batch size aside), one pass and one device value.
#pragma once

#include <concepts>
#include <cstdint>

#include <ddpm/core/device.hpp>
#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/conv2d.hpp>
#include <ddpm/ops/cpu/implicit_gemm.hpp>
#include <ddpm/ops/cpu/packed_weights.hpp>
#include <ddpm/ops/cpu/weight_gradient.hpp>

namespace ddpm {

namespace detail::cpu {

struct PreparedTag;
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
  return {init, 0, nullptr, 1.0f};
}

// The weights in the order of the kernels: those given, or prepared now.
inline const float* prepared_weights(const PackedWeights& weights, const float* weight, const float* prepared) {
  if (prepared) return prepared;
  float* packed = thread_scratch<PreparedTag>(static_cast<std::size_t>(weights.size()));
  weights.pack(weight, packed);
  return packed;
}

}  // namespace detail::cpu

inline std::int64_t conv2d_prepared_size(const Cpu&, const Conv2dGeometry& shape, Conv2dPass pass) {
  return detail::cpu::PackedWeights{{shape, pass}}.size();
}

template <std::same_as<float> T>
void launch(const Cpu&, const Conv2dPrepare<T>& p) {
  detail::cpu::PackedWeights{{p.shape, p.pass}}.pack(p.weight, p.prepared);
}

template <std::same_as<float> T>
void launch(const Cpu&, const Conv2dForward<T>& p) {
  using namespace detail::cpu;
  const Conv2dGeometry& g = p.shape;
  const PackedWeights weights{{g, Conv2dPass::forward}};
  const ImplicitGemm gemm{weights, {p.x, p.x2, g.h, g.w, g.c, g.c2, 1}, {p.y, nullptr}, make_epilogue(p)};
  gemm.run(prepared_weights(weights, p.weight, p.prepared));
}

template <std::same_as<float> T>
void launch(const Cpu&, const Conv2dBackwardData<T>& p) {
  using namespace detail::cpu;
  const Conv2dGeometry& g = p.shape;
  const PackedWeights weights{{g, Conv2dPass::backward_data}};
  const ImplicitGemm gemm{weights, {p.dy, nullptr, g.p, g.q, g.cout, 0, 1}, {p.dx, p.dx2}, make_epilogue(p)};
  gemm.run(prepared_weights(weights, p.weight, p.prepared));
}

template <std::same_as<float> T>
void launch(const Cpu&, const Conv2dBackwardWeight<T>& p) {
  using namespace detail::cpu;
  const Conv2dGeometry& g = p.shape;
  if (g.pixels() == 0) return;
  WeightGradient(g, {p.x, p.x2, g.h, g.w, g.c, g.c2, g.upsample}, p.dy).run(p.dweight);
}

}  // namespace ddpm
