// SPDX-License-Identifier: MIT
// bf16 as storage on the host: each op runs in float on widened copies of its operands, and what it wrote is
// rounded to nearest even. For models whose numbers are to be those of a bf16 GPU, not for speed.
#pragma once

#include <cstddef>
#include <vector>

#include <ddpm/core/tensor.hpp>
#include <ddpm/ops/cpu/activation.hpp>
#include <ddpm/ops/cpu/attention.hpp>
#include <ddpm/ops/cpu/conv2d.hpp>
#include <ddpm/ops/cpu/denoising.hpp>
#include <ddpm/ops/cpu/elementwise.hpp>
#include <ddpm/ops/cpu/embedding.hpp>
#include <ddpm/ops/cpu/group_norm.hpp>
#include <ddpm/ops/cpu/linear.hpp>
#include <ddpm/ops/cpu/loss.hpp>
#include <ddpm/ops/cpu/noising.hpp>
#include <ddpm/ops/cpu/reduce.hpp>
#include <ddpm/ops/cpu/resample.hpp>

namespace ddpm {

namespace detail::cpu {

// The float operands of one op; a null pointer stays null.
class Widened {
 public:
  explicit Widened(const Cpu& device) : device_(device) {}
  Widened(const Widened&) = delete;
  Widened& operator=(const Widened&) = delete;
  ~Widened() {
    for (const Output& output : outputs_) cast_range(copies_[output.copy].data(), output.to, output.count);
  }

  // What the op reads.
  const float* in(const bf16* from, std::int64_t count) { return from ? copy(from, count) : nullptr; }
  // What the op overwrites.
  float* out(bf16* to, std::int64_t count) {
    if (to == nullptr) return nullptr;
    outputs_.push_back({copies_.size(), to, count});
    return copies_.emplace_back(device_, Shape{count}).data();
  }
  // What the op updates.
  float* in_out(bf16* to, std::int64_t count) {
    outputs_.push_back({copies_.size(), to, count});
    return copy(to, count);
  }

 private:
  struct Output {
    std::size_t copy;
    bf16* to;
    std::int64_t count;
  };

  float* copy(const bf16* from, std::int64_t count) {
    float* to = copies_.emplace_back(device_, Shape{count}).data();
    cast_range(from, to, count);
    return to;
  }

  Cpu device_;
  std::vector<Tensor<float, Cpu>> copies_;
  std::vector<Output> outputs_;
};

inline std::int64_t input_pixels(const Conv2dGeometry& g) { return std::int64_t{g.n} * g.h * g.w; }
inline std::int64_t weight_count(const Conv2dGeometry& g) {
  return std::int64_t{g.cout} * g.taps() * g.channels();
}
inline std::int64_t pixels_of(const GroupNormGeometry& g) { return std::int64_t{g.n} * g.hw; }
inline std::int64_t tokens_of(const AttentionGeometry& g) { return std::int64_t{g.n} * g.tokens; }

}  // namespace detail::cpu

inline void launch(const Cpu& device, const Conv2dForward<bf16>& p) {
  const Conv2dGeometry& g = p.shape;
  const std::int64_t from = detail::cpu::input_pixels(g), to = g.pixels() * g.cout;
  {
    detail::cpu::Widened w(device);
    launch(device, Conv2dForward<float>{g, w.in(p.x, from * g.c), w.in(p.x2, from * g.c2),
                                        w.in(p.weight, detail::cpu::weight_count(g)), nullptr, p.bias,
                                        w.in(p.add, std::int64_t{g.n} * g.cout), w.in(p.residual, to),
                                        p.scale, w.out(p.y, to)});
  }
  if (p.moments) channel_moments(p.y, g.n, g.p * g.q, g.cout, p.moments);
}

inline void launch(const Cpu& device, const Conv2dBackwardData<bf16>& p) {
  const Conv2dGeometry& g = p.shape;
  const std::int64_t pixels = detail::cpu::input_pixels(g);
  detail::cpu::Widened w(device);
  launch(device, Conv2dBackwardData<float>{g, w.in(p.dy, g.pixels() * g.cout),
                                           w.in(p.weight, detail::cpu::weight_count(g)), nullptr,
                                           w.out(p.dx, pixels * g.c), w.out(p.dx2, pixels * g.c2),
                                           w.in(p.add, pixels * g.c)});
}

inline void launch(const Cpu& device, const Conv2dBackwardWeight<bf16>& p) {
  const Conv2dGeometry& g = p.shape;
  const std::int64_t pixels = detail::cpu::input_pixels(g);
  detail::cpu::Widened w(device);
  launch(device, Conv2dBackwardWeight<float>{g, w.in(p.x, pixels * g.c), w.in(p.x2, pixels * g.c2),
                                             w.in(p.dy, g.pixels() * g.cout), p.dweight, p.dbias});
}

// Nothing is prepared: the weight is packed anew from its widened copy.
inline void launch(const Cpu&, const Conv2dPrepare<bf16>&) {}

inline void launch(const Cpu& device, const LinearForward<bf16>& p) {
  detail::cpu::Widened w(device);
  launch(device, LinearForward<float>{w.in(p.x, p.m * p.in), w.in(p.weight, std::int64_t{p.in} * p.out),
                                      nullptr, p.bias, w.in(p.residual, p.m * p.out), p.scale,
                                      w.out(p.y, p.m * p.out), p.m, p.in, p.out});
}

inline void launch(const Cpu& device, const LinearBackwardData<bf16>& p) {
  detail::cpu::Widened w(device);
  launch(device, LinearBackwardData<float>{
                     w.in(p.dy, p.m * p.out), w.in(p.weight, std::int64_t{p.in} * p.out), nullptr,
                     w.out(p.dx, p.m * p.in), p.m, p.in, p.out, w.in(p.add, p.m * p.in)});
}

inline void launch(const Cpu& device, const LinearBackwardWeight<bf16>& p) {
  detail::cpu::Widened w(device);
  launch(device, LinearBackwardWeight<float>{w.in(p.x, p.m * p.in), w.in(p.dy, p.m * p.out), p.dweight, p.m,
                                             p.in, p.out, p.dbias});
}

inline void launch(const Cpu& device, const GroupNormForward<bf16>& p) {
  const GroupNormGeometry& g = p.shape;
  const std::int64_t pixels = detail::cpu::pixels_of(g);
  detail::cpu::Widened w(device);
  launch(device,
         GroupNormForward<float>{g, w.in(p.x, pixels * g.c), w.in(p.x2, pixels * g.c2), p.gamma, p.beta,
                                 w.in(p.scale_shift, 2 * std::int64_t{g.n} * g.channels()), p.eps,
                                 p.activation, w.out(p.y, pixels * g.channels()), p.mean, p.rstd});
}

inline void launch(const Cpu& device, const GroupNormBackward<bf16>& p) {
  const GroupNormGeometry& g = p.shape;
  const std::int64_t pixels = detail::cpu::pixels_of(g), scales = 2 * std::int64_t{g.n} * g.channels();
  detail::cpu::Widened w(device);
  launch(device, GroupNormBackward<float>{
                     g, w.in(p.dy, pixels * g.channels()), w.in(p.x, pixels * g.c), w.in(p.x2, pixels * g.c2),
                     p.gamma, p.beta, w.in(p.scale_shift, scales), p.mean, p.rstd, p.activation,
                     w.in(p.add, pixels * g.c), w.in(p.add2, pixels * g.c2), w.out(p.dx, pixels * g.c),
                     w.out(p.dx2, pixels * g.c2), p.dgamma, p.dbeta, w.out(p.dscale_shift, scales),
                     w.out(p.dx_sums, scales / 2), w.in(p.also, pixels * g.c)});
}

inline void launch(const Cpu& device, const AttentionForward<bf16>& p) {
  const std::int64_t count = detail::cpu::tokens_of(p.shape) * p.shape.channels();
  detail::cpu::Widened w(device);
  launch(device,
         AttentionForward<float>{p.shape, w.in(p.qkv, 3 * count), p.scale, w.out(p.out, count), p.logsumexp});
}

inline void launch(const Cpu& device, const AttentionBackward<bf16>& p) {
  const std::int64_t count = detail::cpu::tokens_of(p.shape) * p.shape.channels();
  detail::cpu::Widened w(device);
  launch(device,
         AttentionBackward<float>{p.shape, w.in(p.qkv, 3 * count), w.in(p.out, count), w.in(p.dout, count),
                                  p.logsumexp, p.scale, w.out(p.dqkv, 3 * count)});
}

inline void launch(const Cpu& device, const SiluForward<bf16>& p) {
  detail::cpu::Widened w(device);
  launch(device, SiluForward<float>{w.in(p.x, p.count), w.out(p.y, p.count), p.count});
}

inline void launch(const Cpu& device, const SiluBackward<bf16>& p) {
  detail::cpu::Widened w(device);
  launch(device, SiluBackward<float>{w.in(p.x, p.count), w.in(p.dy, p.count), w.out(p.dx, p.count), p.count});
}

inline void launch(const Cpu& device, const SoftmaxForward<bf16>& p) {
  const std::int64_t count = p.rows * p.cols;
  detail::cpu::Widened w(device);
  launch(device, SoftmaxForward<float>{w.in(p.x, count), w.out(p.y, count), p.rows, p.cols});
}

inline void launch(const Cpu& device, const SoftmaxBackward<bf16>& p) {
  const std::int64_t count = p.rows * p.cols;
  detail::cpu::Widened w(device);
  launch(device,
         SoftmaxBackward<float>{w.in(p.y, count), w.in(p.dy, count), w.out(p.dx, count), p.rows, p.cols});
}

inline void launch(const Cpu& device, const UpsampleForward<bf16>& p) {
  const std::int64_t count = std::int64_t{p.n} * p.h * p.w * p.c;
  detail::cpu::Widened w(device);
  launch(device, UpsampleForward<float>{w.in(p.x, count), w.out(p.y, 4 * count), p.n, p.h, p.w, p.c});
}

inline void launch(const Cpu& device, const UpsampleBackward<bf16>& p) {
  const std::int64_t count = std::int64_t{p.n} * p.h * p.w * p.c;
  detail::cpu::Widened w(device);
  launch(device, UpsampleBackward<float>{w.in(p.dy, 4 * count), w.out(p.dx, count), p.n, p.h, p.w, p.c});
}

inline void launch(const Cpu& device, const AddTo<bf16>& p) {
  detail::cpu::Widened w(device);
  launch(device, AddTo<float>{w.in(p.x, p.count), w.in_out(p.y, p.count), p.count});
}

inline void launch(const Cpu& device, const Affine<bf16>& p) {
  detail::cpu::Widened w(device);
  launch(device, Affine<float>{w.in(p.x, p.count), w.out(p.y, p.count), p.a, p.b, p.count});
}

inline void launch(const Cpu& device, const Dropout<bf16>& p) {
  const std::int64_t count = p.n * p.per_sample;
  detail::cpu::Widened w(device);
  launch(device, Dropout<float>{w.in(p.x, count), w.out(p.y, count), p.position, p.p, p.n, p.per_sample});
}

inline void launch(const Cpu& device, const Concat<bf16>& p) {
  detail::cpu::Widened w(device);
  launch(device, Concat<float>{w.in(p.x, p.rows * p.c), w.in(p.x2, p.rows * p.c2),
                               w.out(p.y, p.rows * (p.c + p.c2)), p.rows, p.c, p.c2});
}

inline void launch(const Cpu& device, const Split<bf16>& p) {
  detail::cpu::Widened w(device);
  launch(device, Split<float>{w.in(p.y, p.rows * (p.c + p.c2)), w.out(p.x, p.rows * p.c),
                              w.out(p.x2, p.rows * p.c2), p.rows, p.c, p.c2});
}

inline void launch(const Cpu& device, const TimestepEmbedding<bf16>& p) {
  detail::cpu::Widened w(device);
  launch(device, TimestepEmbedding<float>{p.t, w.out(p.y, std::int64_t{p.n} * p.dim), p.n, p.dim,
                                          p.flip_sin_to_cos, p.freq_shift});
}

inline void launch(const Cpu& device, const ClassEmbedding<bf16>& p) {
  detail::cpu::Widened w(device);
  launch(device,
         ClassEmbedding<float>{p.table, p.label, w.in_out(p.y, std::int64_t{p.n} * p.dim), p.n, p.dim});
}

inline void launch(const Cpu& device, const ClassEmbeddingBackward<bf16>& p) {
  detail::cpu::Widened w(device);
  launch(device,
         ClassEmbeddingBackward<float>{w.in(p.dy, std::int64_t{p.n} * p.dim), p.label, p.dtable, p.n, p.dim});
}

inline void launch(const Cpu& device, const Noising<bf16>& p) {
  detail::cpu::Widened w(device);
  launch(device, Noising<float>{p.x0, p.pixels, p.noise, p.t, p.signal, p.sigma, p.position, p.flip,
                                p.prediction, p.xt, p.target, p.n, p.h, p.w, p.c,
                                w.out(p.model_input, std::int64_t{p.n} * p.h * p.w * p.c)});
}

inline void launch(const Cpu& device, const MseLoss<bf16>& p) {
  const std::int64_t count = p.n * p.per_sample;
  detail::cpu::Widened w(device);
  launch(device, MseLoss<float>{w.in(p.prediction, count), p.target, p.weight, p.loss,
                                w.out(p.dprediction, count), p.n, p.per_sample, p.position});
}

inline void launch(const Cpu& device, const Denoising<bf16>& p) {
  const std::int64_t count = p.n * p.per_sample;
  detail::cpu::Widened w(device);
  launch(device, Denoising<float>{p.x, w.in(p.model_output, count), p.table, p.step, p.clip, p.noise,
                                  p.position, p.x0, p.n, p.per_sample, w.out(p.model_input, count)});
}

inline void launch(const Cpu& device, const FillNormal<bf16>& p) {
  detail::cpu::Widened w(device);
  launch(device, FillNormal<float>{w.out(p.x, p.n * p.per_sample), p.position, p.n, p.per_sample});
}

}  // namespace ddpm
