// SPDX-License-Identifier: MIT
// What each op costs at least, to compare kernels and running times with.
//
//   bytes: cross the memory bus when each element of an input is read once and each of an output written once;
//          an output that is added to is also read. Scratch memory is not counted.
//   flops: of sums of products, two per term, with those that meet the padding of an image. Pointwise ops and
//          softmax are bound by memory, and count as 0.
#pragma once

#include <ddpm/ops/activation.hpp>
#include <ddpm/ops/adamw.hpp>
#include <ddpm/ops/attention.hpp>
#include <ddpm/ops/conv2d.hpp>
#include <ddpm/ops/denoising.hpp>
#include <ddpm/ops/elementwise.hpp>
#include <ddpm/ops/embedding.hpp>
#include <ddpm/ops/group_norm.hpp>
#include <ddpm/ops/linear.hpp>
#include <ddpm/ops/loss.hpp>
#include <ddpm/ops/noising.hpp>
#include <ddpm/ops/reduce.hpp>
#include <ddpm/ops/resample.hpp>

namespace ddpm {

struct Cost {
  std::int64_t bytes;
  std::int64_t flops = 0;
};

namespace detail {

// Of operands with `count` elements each; one that is read and written is named twice, an absent one is null.
template <class... T>
std::int64_t bytes(std::int64_t count, const T*... operand) {
  return ((operand ? count * std::int64_t{sizeof(T)} : 0) + ...);
}

// Of x and x2, whose channels follow each other.
template <class Geometry, class T>
std::int64_t image_bytes(const Geometry& s, std::int64_t pixels, const T* x, const T* x2) {
  return bytes(pixels * s.c, x) + bytes(pixels * s.c2, x2);
}

// The extents of a convolution, or of a linear layer as one.
struct ConvolutionCounts {
  std::int64_t in, out, weight, flops;  // pixels, elements, elements, operations

  explicit ConvolutionCounts(const Conv2dGeometry& s)
      : in(std::int64_t{s.n} * s.h * s.w),
        out(s.pixels() * s.cout),
        weight(std::int64_t{s.cout} * s.taps() * s.channels()),
        flops(2 * s.pixels() * weight) {}
};

}  // namespace detail

template <class T>
Cost cost(const Conv2dForward<T>& p) {
  const Conv2dGeometry& s = p.shape;
  const detail::ConvolutionCounts k(s);
  const std::int64_t rows = std::int64_t{s.n} * s.cout;
  return {detail::image_bytes(s, k.in, p.x, p.x2) + detail::bytes(k.weight, p.weight) +
              detail::bytes(s.cout, p.bias) + detail::bytes(rows, p.add) +
              detail::bytes(k.out, p.residual, p.y) +
              detail::bytes(rows * moments_slabs(s.p * s.q), p.moments),
          k.flops};
}

template <class T>
Cost cost(const Conv2dBackwardData<T>& p) {
  const detail::ConvolutionCounts k(p.shape);
  return {detail::bytes(k.out, p.dy) + detail::bytes(k.weight, p.weight) +
              detail::image_bytes(p.shape, k.in, p.dx, p.dx2) + detail::bytes(k.in * p.shape.c, p.add),
          k.flops};
}

template <class T>
Cost cost(const Conv2dBackwardWeight<T>& p) {
  const detail::ConvolutionCounts k(p.shape);
  return {detail::image_bytes(p.shape, k.in, p.x, p.x2) + detail::bytes(k.out, p.dy) +
              detail::bytes(k.weight, p.dweight, p.dweight) + detail::bytes(p.shape.cout, p.dbias, p.dbias),
          k.flops};
}

template <class T>
Cost cost(const LinearForward<T>& p) {
  const std::int64_t weight = std::int64_t{p.out} * p.in;
  return {detail::bytes(p.m * p.in, p.x) + detail::bytes(weight, p.weight) + detail::bytes(p.out, p.bias) +
              detail::bytes(p.m * p.out, p.residual, p.y),
          2 * p.m * weight};
}

template <class T>
Cost cost(const LinearBackwardData<T>& p) {
  const std::int64_t weight = std::int64_t{p.out} * p.in;
  return {detail::bytes(p.m * p.out, p.dy) + detail::bytes(weight, p.weight) +
              detail::bytes(p.m * p.in, p.dx, p.add),
          2 * p.m * weight};
}

template <class T>
Cost cost(const LinearBackwardWeight<T>& p) {
  const std::int64_t weight = std::int64_t{p.out} * p.in;
  return {detail::bytes(p.m * p.in, p.x) + detail::bytes(p.m * p.out, p.dy) +
              detail::bytes(weight, p.dweight, p.dweight) + detail::bytes(p.out, p.dbias, p.dbias),
          2 * p.m * weight};
}

// Two products: the scores and the output.
template <class T>
Cost cost(const AttentionForward<T>& p) {
  const std::int64_t tokens = std::int64_t{p.shape.n} * p.shape.tokens, out = tokens * p.shape.channels();
  return {detail::bytes(3 * out, p.qkv) + detail::bytes(out, p.out) +
              detail::bytes(tokens * p.shape.heads, p.logsumexp),
          2 * 2 * out * p.shape.tokens};
}

// Five products: the scores again, and the gradients of V, of the scores, of Q and of K.
template <class T>
Cost cost(const AttentionBackward<T>& p) {
  const std::int64_t tokens = std::int64_t{p.shape.n} * p.shape.tokens, out = tokens * p.shape.channels();
  return {detail::bytes(3 * out, p.qkv, p.dqkv) + detail::bytes(out, p.out, p.dout) +
              detail::bytes(tokens * p.shape.heads, p.logsumexp),
          5 * 2 * out * p.shape.tokens};
}

template <class T>
Cost cost(const GroupNormForward<T>& p) {
  const GroupNormGeometry& s = p.shape;
  const std::int64_t pixels = std::int64_t{s.n} * s.hw, channels = s.channels();
  return {detail::image_bytes(s, pixels, p.x, p.x2) + detail::bytes(pixels * channels, p.y) +
          detail::bytes(channels, p.gamma, p.beta) + detail::bytes(2 * s.n * channels, p.scale_shift) +
          detail::bytes(std::int64_t{s.n} * s.groups, p.mean, p.rstd) +
          detail::image_bytes(s, std::int64_t{s.n} * moments_slabs(s.hw), p.moments, p.moments2)};
}

template <class T>
Cost cost(const GroupNormBackward<T>& p) {
  const GroupNormGeometry& s = p.shape;
  const std::int64_t pixels = std::int64_t{s.n} * s.hw, channels = s.channels();
  return {detail::bytes(pixels * channels, p.dy) + detail::image_bytes(s, pixels, p.x, p.x2) +
          detail::image_bytes(s, pixels, p.add, p.add2) + detail::bytes(pixels * s.c, p.also) +
          detail::image_bytes(s, pixels, p.dx, p.dx2) +
          detail::bytes(channels, p.gamma, p.beta, p.dgamma, p.dgamma, p.dbeta, p.dbeta) +
          detail::bytes(2 * s.n * channels, p.scale_shift, p.dscale_shift) +
          detail::bytes(s.n * channels, p.dx_sums) +
          detail::bytes(std::int64_t{s.n} * s.groups, p.mean, p.rstd)};
}

template <class T>
Cost cost(const SiluForward<T>& p) {
  return {detail::bytes(p.count, p.x, p.y)};
}

template <class T>
Cost cost(const SiluBackward<T>& p) {
  return {detail::bytes(p.count, p.x, p.dy, p.dx)};
}

template <class T>
Cost cost(const SoftmaxForward<T>& p) {
  return {detail::bytes(p.rows * p.cols, p.x, p.y)};
}

template <class T>
Cost cost(const SoftmaxBackward<T>& p) {
  return {detail::bytes(p.rows * p.cols, p.y, p.dy, p.dx)};
}

template <class T>
Cost cost(const UpsampleForward<T>& p) {
  const std::int64_t count = std::int64_t{p.n} * p.h * p.w * p.c;
  return {detail::bytes(count, p.x) + detail::bytes(4 * count, p.y)};
}

template <class T>
Cost cost(const UpsampleBackward<T>& p) {
  const std::int64_t count = std::int64_t{p.n} * p.h * p.w * p.c;
  return {detail::bytes(4 * count, p.dy) + detail::bytes(count, p.dx)};
}

template <class T>
Cost cost(const TimestepEmbedding<T>& p) {
  return {detail::bytes(p.n, p.t) + detail::bytes(std::int64_t{p.n} * p.dim, p.y)};
}

// As if all labels differed, which makes the rows of the table as many.
template <class T>
Cost cost(const ClassEmbedding<T>& p) {
  return {detail::bytes(p.n, p.label) + detail::bytes(std::int64_t{p.n} * p.dim, p.table, p.y, p.y)};
}

template <class T>
Cost cost(const ClassEmbeddingBackward<T>& p) {
  return {detail::bytes(p.n, p.label) + detail::bytes(std::int64_t{p.n} * p.dim, p.dy, p.dtable, p.dtable)};
}

// As if all samples were at different steps.
template <class T>
Cost cost(const Noising<T>& p) {
  return {detail::bytes(std::int64_t{p.n} * p.h * p.w * p.c, p.x0, p.pixels, p.noise, p.xt, p.target,
                        p.model_input) +
          detail::bytes(p.n, p.t, p.signal, p.sigma)};
}

inline Cost cost(const DrawTimesteps& p) { return {detail::bytes(p.n, p.t)}; }

template <class T>
Cost cost(const Denoising<T>& p) {
  return {detail::bytes(p.n * p.per_sample, p.x, p.x, p.model_output, p.noise, p.x0, p.model_input) +
          detail::bytes(1, p.table, p.step)};
}

template <class Real>
Cost cost(const BeginStep<Real>& p) {
  return {detail::bytes(1, &p.table->t, p.step, p.step) + detail::bytes(p.n, p.t)};
}

template <class T>
Cost cost(const FillNormal<T>& p) {
  return {detail::bytes(p.n * p.per_sample, p.x)};
}

template <class T>
Cost cost(const MseLoss<T>& p) {
  return {detail::bytes(p.n * p.per_sample, p.prediction, p.target, p.dprediction) +
          detail::bytes(p.n, p.weight) + detail::bytes(1, p.loss)};
}

template <class Real>
Cost cost(const AdamWUpdate<Real>& p) {
  return {detail::bytes(p.count, p.gradient, p.value, p.value, p.first, p.first, p.second, p.second,
                        p.average, p.average, p.copy) +
          detail::bytes(1, p.squared_norm)};
}

template <class Real>
Cost cost(const EmaUpdate<Real>& p) {
  return {detail::bytes(p.count, p.value, p.average, p.average)};
}

template <class T>
Cost cost(const SquaredNorm<T>& p) {
  return {detail::bytes(p.count, p.x) + detail::bytes(1, p.out)};
}

template <class T>
Cost cost(const AddTo<T>& p) {
  return {detail::bytes(p.count, p.x, p.y, p.y)};
}

template <class From, class To>
Cost cost(const Cast<From, To>& p) {
  return {detail::bytes(p.count, p.x, p.y)};
}

template <class T>
Cost cost(const Affine<T>& p) {
  return {detail::bytes(p.count, p.x, p.y)};
}

template <class T>
Cost cost(const Dropout<T>& p) {
  return {detail::bytes(p.n * p.per_sample, p.x, p.y)};
}

template <class T>
Cost cost(const Concat<T>& p) {
  return {detail::bytes(p.rows * p.c, p.x) + detail::bytes(p.rows * p.c2, p.x2) +
          detail::bytes(p.rows * (p.c + p.c2), p.y)};
}

template <class T>
Cost cost(const Split<T>& p) {
  return {detail::bytes(p.rows * (p.c + p.c2), p.y) + detail::bytes(p.rows * p.c, p.x) +
          detail::bytes(p.rows * p.c2, p.x2)};
}

}  // namespace ddpm
