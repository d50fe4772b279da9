// SPDX-License-Identifier: MIT
// Group normalisation with a fused activation, forward and backward.
//
//   u[n,hw,c] = gamma[c] * (x[n,hw,c] - mean[n,g]) * rstd[n,g] + beta[c]
//   v = u * (1 + scale[n,c]) + shift[n,c] where scale_shift is given, else v = u
//   y = activation(v),  with g = c / (C / G) and rstd = 1 / sqrt(var + eps)
//
// mean and var are over the pixels and the C / G channels of a group (var with divisor HW * C / G, as torch).
// The channels may come from two tensors, x then x2; a group may straddle both.
#pragma once

#include <ddpm/core/debug.hpp>
#include <ddpm/ops/activation.hpp>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm {

struct GroupNormOptions {
  int groups = 32;
  double eps = 1e-5;
  Activation activation = Activation::silu;
};

struct GroupNormGeometry {
  int n, hw;
  int c, c2;  // channels of x and of x2 (0: absent)
  int groups;

  DDPM_HOST_DEVICE int channels() const { return c + c2; }
  DDPM_HOST_DEVICE int channels_per_group() const { return channels() / groups; }
};

template <class T>
struct GroupNormForward {
  GroupNormGeometry shape;
  const T* x;                   // [N, HW, C]
  const T* x2;                  // [N, HW, C2], or null
  const Accumulator<T>* gamma;  // [C + C2]
  const Accumulator<T>* beta;   // [C + C2]
  const T* scale_shift;         // [N, 2 (C + C2)]: scale, then shift; or null
  Accumulator<T> eps;
  Activation activation;
  T* y;                                                      // [N, HW, C + C2]
  Accumulator<T>* mean;                                      // [N, G]
  Accumulator<T>* rstd;                                      // [N, G]
  const ChannelMoments<Accumulator<T>>* moments = nullptr;   // of x [N, Slabs, C], or null
  const ChannelMoments<Accumulator<T>>* moments2 = nullptr;  // of x2, with moments
};

template <class T>
struct GroupNormBackward {
  GroupNormGeometry shape;
  const T* dy;  // [N, HW, C + C2]
  const T* x;
  const T* x2;
  const Accumulator<T>* gamma;
  const Accumulator<T>* beta;
  const T* scale_shift;
  const Accumulator<T>* mean;
  const Accumulator<T>* rstd;
  Activation activation;
  const T* add;            // [N, HW, C], added to dx, or null; may be dx
  const T* add2;           // [N, HW, C2], added to dx2, or null; may be dx2
  T* dx;                   // [N, HW, C], overwritten
  T* dx2;                  // [N, HW, C2], overwritten, or null
  Accumulator<T>* dgamma;  // [C + C2], added to
  Accumulator<T>* dbeta;   // [C + C2], added to
  T* dscale_shift;         // [N, 2 (C + C2)], overwritten, or null
  T* dx_sums = nullptr;    // [N, C + C2], over the pixels of dx and dx2, or null; with nothing added to those
  const T* also = nullptr;  // as add, added to dx too, or null
};

template <class T, Device D>
struct GroupNormOperands {
  TensorView<T, D> x;                   // [N, H, W, C]
  TensorView<T, D> x2 = {};             // [N, H, W, C2], optional
  TensorView<Accumulator<T>, D> gamma;  // [C + C2]
  TensorView<Accumulator<T>, D> beta;   // [C + C2]
  TensorView<T, D> scale_shift = {};    // [N, 2 (C + C2)], optional
  // Of x and x2 as their makers left them, optional: used where all are given.
  TensorView<ChannelMoments<Accumulator<T>>, D> moments = {};   // [N, Slabs, C]
  TensorView<ChannelMoments<Accumulator<T>>, D> moments2 = {};  // [N, Slabs, C2]
};

template <class T, Device D>
struct GroupNormStatistics {
  TensorView<Accumulator<T>, D> mean;  // [N, G]
  TensorView<Accumulator<T>, D> rstd;  // [N, G]
};

template <class T, Device D>
struct GroupNormGradients {
  TensorView<T, D> add = {};   // optional, added to dx
  TensorView<T, D> add2 = {};  // optional, added to dx2
  TensorView<T, D> also = {};  // optional, added to dx too
  TensorView<T, D> dx;
  TensorView<T, D> dx2 = {};  // as x2
  TensorView<Accumulator<T>, D> dgamma = {};
  TensorView<Accumulator<T>, D> dbeta = {};
  TensorView<T, D> dscale_shift = {};  // as scale_shift
  // [N, C + C2], optional: over the pixels of dx and dx2, the gradient of what was added to all pixels of x
  // alike. Not together with add, add2 or also.
  TensorView<T, D> dx_sums = {};
};

namespace detail {

template <class T, Device D>
GroupNormGeometry group_norm_geometry(const char* op, const GroupNormOperands<T, D>& in, int groups) {
  const int channels = joined_channels(op, in.x, in.x2);
  check<ConfigError>(groups >= 1 && channels % groups == 0, op, ": ", channels,
                     " channels are not divisible by ", groups, " groups");
  check_shape(op, "gamma", in.gamma, {channels});
  check_shape(op, "beta", in.beta, {channels});
  const Shape& x = in.x.shape();
  check_optional(op, "scale_shift", in.scale_shift, {x[0], 2 * channels});
  const auto c = static_cast<int>(x[3]);
  return {static_cast<int>(x[0]), static_cast<int>(x[1] * x[2]), c, channels - c, groups};
}

}  // namespace detail

template <class T, Device D>
void group_norm(const GroupNormOperands<T, D>& in, const GroupNormOptions& options, const TensorView<T, D>& y,
                const GroupNormStatistics<T, D>& statistics) {
  const GroupNormGeometry s = detail::group_norm_geometry("group_norm", in, options.groups);
  const Shape& x = in.x.shape();
  detail::check_shape("group_norm", "y", y, {x[0], x[1], x[2], s.channels()});
  detail::check_shape("group_norm", "mean", statistics.mean, {s.n, s.groups});
  detail::check_shape("group_norm", "rstd", statistics.rstd, {s.n, s.groups});
  const int slabs = moments_slabs(s.hw);
  detail::check_optional("group_norm", "moments", in.moments, {s.n, slabs, s.c});
  detail::check_optional("group_norm", "moments2", in.moments2, {s.n, slabs, s.c2});
  const bool complete = s.c2 == 0 || !in.moments2.empty();
  launch(y.device(),
         GroupNormForward<T>{s, in.x.data(), in.x2.data(), in.gamma.data(), in.beta.data(),
                             in.scale_shift.data(), static_cast<Accumulator<T>>(options.eps),
                             options.activation, y.data(), statistics.mean.data(), statistics.rstd.data(),
                             complete ? in.moments.data() : nullptr, in.moments2.data()});
  detail::check_outputs("group_norm", y);
}

template <class T, Device D>
void group_norm_backward(const TensorView<T, D>& dy, const GroupNormOperands<T, D>& in,
                         const GroupNormOptions& options, const GroupNormStatistics<T, D>& statistics,
                         const GroupNormGradients<T, D>& out) {
  const GroupNormGeometry s = detail::group_norm_geometry("group_norm_backward", in, options.groups);
  const Shape& x = in.x.shape();
  detail::check_shape("group_norm_backward", "dy", dy, {x[0], x[1], x[2], s.channels()});
  detail::check_shape("group_norm_backward", "dx", out.dx, x);
  check(out.dx2.empty() == in.x2.empty(), "group_norm_backward: dx2 is ",
        out.dx2.empty() ? "missing" : "given", " for an input of ",
        in.x2.empty() ? "one tensor" : "two tensors");
  detail::check_optional("group_norm_backward", "dx2", out.dx2, in.x2.shape());
  detail::check_optional("group_norm_backward", "add", out.add, x);
  detail::check_optional("group_norm_backward", "add2", out.add2, in.x2.shape());
  detail::check_optional("group_norm_backward", "also", out.also, x);
  detail::check_shape("group_norm_backward", "dgamma", out.dgamma, {s.channels()});
  detail::check_shape("group_norm_backward", "dbeta", out.dbeta, {s.channels()});
  detail::check_optional("group_norm_backward", "dscale_shift", out.dscale_shift, {s.n, 2 * s.channels()});
  detail::check_optional("group_norm_backward", "dx_sums", out.dx_sums, {s.n, s.channels()});
  check<ConfigError>(
      out.dx_sums.empty() || (out.add.empty() && out.add2.empty() && out.also.empty()),
      "group_norm_backward: dx_sums are given together with add, add2 or also, expected one of them");
  launch(dy.device(),
         GroupNormBackward<T>{s, dy.data(), in.x.data(), in.x2.data(), in.gamma.data(), in.beta.data(),
                              in.scale_shift.data(), statistics.mean.data(), statistics.rstd.data(),
                              options.activation, out.add.data(), out.add2.data(), out.dx.data(),
                              out.dx2.data(), out.dgamma.data(), out.dbeta.data(), out.dscale_shift.data(),
                              out.dx_sums.data(), out.also.data()});
  detail::check_outputs("group_norm_backward", out.dx, out.dx2, out.dgamma, out.dbeta, out.dscale_shift,
                        out.dx_sums);
}

}  // namespace ddpm
