// SPDX-License-Identifier: MIT
// 2-D convolution of channels-last images, forward and both backward passes.
//
//   y[n,p,q,o] = scale * (bias[o] + add[n,o] + residual[n,p,q,o]
//                         + sum over r,s,c of x[n, p*stride + r - pad_begin, q*stride + s - pad_begin, c] *
//                         weight[o,r,s,c])
//
// x is zero outside its borders (pad_begin rows and columns before, pad_end after). Its channels may come
// from two tensors, x then x2, so that a concatenation copies nothing. With upsample = 2 the convolution
// reads each pixel of x twice per axis (nearest neighbour), and H and W are the extents of the small image.
// This is torch.nn.functional.conv2d (cross-correlation) in another memory order.
#pragma once

#include <cstdint>

#include <ddpm/core/debug.hpp>
#include <ddpm/core/dtype.hpp>
#include <ddpm/core/tensor.hpp>
#include <ddpm/ops/channel_moments.hpp>

namespace ddpm {

struct Conv2dOptions {
  int stride = 1;
  int pad_begin = 1;
  int pad_end = 1;
  int upsample = 1;  // 1 or 2
  double scale = 1;  // forward only
};

struct Conv2dGeometry {
  int n, h, w;  // of x and x2 as stored
  int c, c2;    // channels of x and of x2 (0: absent)
  int cout;
  int kernel;
  int stride, pad_begin, pad_end, upsample;
  int p, q;  // rows and columns of y

  DDPM_HOST_DEVICE int channels() const { return c + c2; }
  DDPM_HOST_DEVICE int taps() const { return kernel * kernel; }
  DDPM_HOST_DEVICE std::int64_t pixels() const { return std::int64_t{n} * p * q; }

  friend bool operator==(const Conv2dGeometry&, const Conv2dGeometry&) = default;
};

// Which pass a prepared copy of the weights serves.
enum class Conv2dPass { forward, backward_data };

template <class T>
struct Conv2dForward {
  Conv2dGeometry shape;
  const T* x;                  // [N, H, W, C]
  const T* x2;                 // [N, H, W, C2], or null
  const T* weight;             // [Cout, K, K, C + C2]
  const T* prepared;           // weight as conv2d_prepare() left it for this device and pass, or null
  const Accumulator<T>* bias;  // [Cout], or null
  const T* add;                // [N, Cout], or null
  const T* residual;           // [N, P, Q, Cout], or null
  Accumulator<T> scale;
  T* y;                                               // [N, P, Q, Cout]
  ChannelMoments<Accumulator<T>>* moments = nullptr;  // of y [N, Slabs, Cout], or null
};

// dx = the gradient of the loss for x, given dy for y (with scale 1), + add; overwrites dx and dx2.
template <class T>
struct Conv2dBackwardData {
  Conv2dGeometry shape;
  const T* dy;             // [N, P, Q, Cout]
  const T* weight;         // [Cout, K, K, C + C2]
  const T* prepared;       // or null
  T* dx;                   // [N, H, W, C]
  T* dx2;                  // [N, H, W, C2], or null
  const T* add = nullptr;  // [N, H, W, C], or null; may be dx; not with dx2
};

// dweight += the gradient for the weight, dbias += that for the bias, which is the sum of dy over pixels.
template <class T>
struct Conv2dBackwardWeight {
  Conv2dGeometry shape;
  const T* x;
  const T* x2;
  const T* dy;
  Accumulator<T>* dweight;          // [Cout, K, K, C + C2]
  Accumulator<T>* dbias = nullptr;  // [Cout], or null
};

// The weight in the memory order that the device's kernels read best; `prepared` has conv2d_prepared_size()
// elements.
template <class T>
struct Conv2dPrepare {
  Conv2dGeometry shape;
  Conv2dPass pass;
  const T* weight;
  T* prepared;
};

// What a convolution reads. Tensors marked optional may be left empty.
template <class T, Device D>
struct Conv2dOperands {
  TensorView<T, D> x;                       // [N, H, W, C]
  TensorView<T, D> x2 = {};                 // [N, H, W, C2], optional
  TensorView<T, D> weight;                  // [Cout, K, K, C + C2]
  TensorView<T, D> prepared = {};           // optional
  TensorView<Accumulator<T>, D> bias = {};  // [Cout], optional
  TensorView<T, D> add = {};                // [N, Cout], optional
  TensorView<T, D> residual = {};           // [N, P, Q, Cout], optional
};

namespace detail {

// `first` or, where two tensors follow each other along the channels, `first` and `second`.
template <class T, Device D>
int joined_channels(const char* op, const TensorView<T, D>& first, const TensorView<T, D>& second) {
  check(first.shape().rank() == 4, op, ": x must be [N, H, W, C], found ", first.shape());
  if (second.empty()) return static_cast<int>(first.shape()[3]);
  const Shape &a = first.shape(), &b = second.shape();
  check(b.rank() == 4 && a[0] == b[0] && a[1] == b[1] && a[2] == b[2], op, ": x ", a, " and x2 ", b,
        " must agree in all but the channels");
  return static_cast<int>(a[3] + b[3]);
}

template <class T, Device D>
void check_shape(const char* op, const char* name, const TensorView<T, D>& tensor, const Shape& expected) {
  check(tensor.shape() == expected, op, ": ", name, " is ", tensor.shape(), ", expected ", expected);
}

template <class T, Device D>
void check_optional(const char* op, const char* name, const TensorView<T, D>& tensor, const Shape& expected) {
  if (!tensor.empty()) check_shape(op, name, tensor, expected);
}

inline int conv2d_extent(int in, int kernel, const Conv2dOptions& options) {
  const int padded = in * options.upsample + options.pad_begin + options.pad_end;
  check(padded >= kernel, "conv2d: an extent of ", padded, " with its padding is smaller than the kernel of ",
        kernel);
  return (padded - kernel) / options.stride + 1;
}

}  // namespace detail

// The geometry of a convolution of x (and x2) by weight; throws ShapeError where they do not fit.
template <class T, Device D>
Conv2dGeometry conv2d_geometry(const TensorView<T, D>& x, const TensorView<T, D>& x2, const Shape& weight,
                               const Conv2dOptions& options) {
  const int channels = detail::joined_channels("conv2d", x, x2);
  check(weight.rank() == 4 && weight[1] == weight[2], "conv2d: weight must be [Cout, K, K, C], found ",
        weight);
  check(weight[3] == channels, "conv2d: x has ", channels, " channels, weight ", weight, " expects ",
        weight[3]);
  check<ConfigError>(options.stride >= 1 && options.pad_begin >= 0 && options.pad_end >= 0, "conv2d: stride ",
                     options.stride, " and padding ", options.pad_begin, ", ", options.pad_end,
                     " must be positive");
  check<ConfigError>(options.upsample == 1 || options.upsample == 2, "conv2d: upsample is ", options.upsample,
                     ", supported are 1 and 2");
  Conv2dGeometry shape{};
  shape.n = static_cast<int>(x.shape()[0]);
  shape.h = static_cast<int>(x.shape()[1]);
  shape.w = static_cast<int>(x.shape()[2]);
  shape.c = static_cast<int>(x.shape()[3]);
  shape.c2 = channels - shape.c;
  shape.cout = static_cast<int>(weight[0]);
  shape.kernel = static_cast<int>(weight[1]);
  shape.stride = options.stride;
  shape.pad_begin = options.pad_begin;
  shape.pad_end = options.pad_end;
  shape.upsample = options.upsample;
  shape.p = detail::conv2d_extent(shape.h, shape.kernel, options);
  shape.q = detail::conv2d_extent(shape.w, shape.kernel, options);
  return shape;
}

// y = the convolution, see the top of this file; `moments`, unless empty, receives those of y.
template <class T, Device D>
void conv2d(const Conv2dOperands<T, D>& in, const Conv2dOptions& options, const TensorView<T, D>& y,
            const TensorView<ChannelMoments<Accumulator<T>>, D>& moments = {}) {
  const Conv2dGeometry s = conv2d_geometry(in.x, in.x2, in.weight.shape(), options);
  detail::check_shape("conv2d", "y", y, {s.n, s.p, s.q, s.cout});
  detail::check_optional("conv2d", "bias", in.bias, {s.cout});
  detail::check_optional("conv2d", "add", in.add, {s.n, s.cout});
  detail::check_optional("conv2d", "residual", in.residual, y.shape());
  detail::check_optional("conv2d", "moments", moments, {s.n, moments_slabs(s.p * s.q), s.cout});
  launch(y.device(), Conv2dForward<T>{s, in.x.data(), in.x2.data(), in.weight.data(), in.prepared.data(),
                                      in.bias.data(), in.add.data(), in.residual.data(),
                                      static_cast<Accumulator<T>>(options.scale), y.data(), moments.data()});
  detail::check_outputs("conv2d", y);
}

// What the backward passes read; x and x2 are needed by the weight's pass only, weight by the data's pass
// only.
template <class T, Device D>
struct Conv2dBackwardOperands {
  TensorView<T, D> dy;             // [N, P, Q, Cout]
  TensorView<T, D> weight = {};    // [Cout, K, K, C + C2]
  TensorView<T, D> prepared = {};  // optional
  TensorView<T, D> x = {};         // [N, H, W, C]
  TensorView<T, D> x2 = {};        // [N, H, W, C2], optional
  TensorView<T, D> add = {};       // as dx, optional
};

// dx (and dx2, unless empty) = the gradient for x (and x2), overwritten. What else has reached x may be added to dx:
// in.add, not together with dx2.
template <class T, Device D>
void conv2d_backward_data(const Conv2dBackwardOperands<T, D>& in, const Conv2dOptions& options,
                          const TensorView<T, D>& dx, const TensorView<T, D>& dx2) {
  const Conv2dGeometry s = conv2d_geometry(dx, dx2, in.weight.shape(), options);
  detail::check_shape("conv2d_backward_data", "dy", in.dy, {s.n, s.p, s.q, s.cout});
  detail::check_optional("conv2d_backward_data", "add", in.add, dx.shape());
  check<ConfigError>(in.add.empty() || dx2.empty(),
                     "conv2d_backward_data: add is given together with dx2, expected one of them");
  launch(dx.device(), Conv2dBackwardData<T>{s, in.dy.data(), in.weight.data(), in.prepared.data(), dx.data(),
                                            dx2.data(), in.add.data()});
  detail::check_outputs("conv2d_backward_data", dx, dx2);
}

// dweight += the gradient for the weight; dbias, unless empty, += that for the bias.
template <class T, Device D>
void conv2d_backward_weight(const Conv2dBackwardOperands<T, D>& in, const Conv2dOptions& options,
                            const TensorView<Accumulator<T>, D>& dweight,
                            const TensorView<Accumulator<T>, D>& dbias = {}) {
  const Conv2dGeometry s = conv2d_geometry(in.x, in.x2, dweight.shape(), options);
  detail::check_shape("conv2d_backward_weight", "dy", in.dy, {s.n, s.p, s.q, s.cout});
  detail::check_optional("conv2d_backward_weight", "dbias", dbias, {s.cout});
  launch(dweight.device(),
         Conv2dBackwardWeight<T>{s, in.x.data(), in.x2.data(), in.dy.data(), dweight.data(), dbias.data()});
  detail::check_outputs("conv2d_backward_weight", dweight, dbias);
}

// How many elements conv2d_prepare() writes on this device; 0 where the kernels read the weight as it is.
// A backend that prepares overloads this for its own device.
template <class T, Device D>
std::int64_t conv2d_prepared_size(const D&, const Conv2dGeometry&, Conv2dPass) {
  return 0;
}

// Whether the forward pass leaves moments at no cost of its own, so that a group norm should ask for them.
// A backend whose does overloads this for its own device.
template <class T, Device D>
bool conv2d_gives_moments(const D&, const Conv2dGeometry&) {
  return false;
}

}  // namespace ddpm
