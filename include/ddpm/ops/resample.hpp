// SPDX-License-Identifier: MIT
// Nearest-neighbour upsampling by 2, y[n, i, j, c] = x[n, i / 2, j / 2, c], and its gradient (the sum of the
// four).
#pragma once

#include <ddpm/core/debug.hpp>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm {

template <class T>
struct UpsampleForward {
  const T* x;  // [N, H, W, C]
  T* y;        // [N, 2 H, 2 W, C]
  int n, h, w, c;
};

template <class T>
struct UpsampleBackward {
  const T* dy;
  T* dx;  // overwritten
  int n, h, w, c;
};

namespace detail {

template <class T, Device D>
void check_upsample(const char* op, const TensorView<T, D>& small, const TensorView<T, D>& large) {
  const Shape& s = small.shape();
  check(s.rank() == 4, op, ": expected [N, H, W, C], found ", s);
  check_shape(op, "the large image", large, {s[0], 2 * s[1], 2 * s[2], s[3]});
}

}  // namespace detail

template <class T, Device D>
void upsample_nearest(const TensorView<T, D>& x, const TensorView<T, D>& y) {
  detail::check_upsample("upsample_nearest", x, y);
  const Shape& s = x.shape();
  launch(y.device(), UpsampleForward<T>{x.data(), y.data(), static_cast<int>(s[0]), static_cast<int>(s[1]),
                                        static_cast<int>(s[2]), static_cast<int>(s[3])});
  detail::check_outputs("upsample_nearest", y);
}

template <class T, Device D>
void upsample_nearest_backward(const TensorView<T, D>& dy, const TensorView<T, D>& dx) {
  detail::check_upsample("upsample_nearest_backward", dx, dy);
  const Shape& s = dx.shape();
  launch(dx.device(),
         UpsampleBackward<T>{dy.data(), dx.data(), static_cast<int>(s[0]), static_cast<int>(s[1]),
                             static_cast<int>(s[2]), static_cast<int>(s[3])});
  detail::check_outputs("upsample_nearest_backward", dx);
}

}  // namespace ddpm
