// SPDX-License-Identifier: MIT
// Small pointwise ops: y += x, y = a x + b, change of type, dropout, concatenation.
#pragma once

#include <ddpm/core/debug.hpp>
#include <ddpm/core/rng.hpp>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm {

template <class T>
struct AddTo {
  const T* x;
  T* y;
  std::int64_t count;
};

// y = x in another type
template <class From, class To>
struct Cast {
  const From* x;
  To* y;
  std::int64_t count;
};

template <class T>
struct Affine {
  const T* x;
  T* y;
  Accumulator<T> a, b;
  std::int64_t count;
};

// y = x / (1 - p) where the element is kept, else 0. Element i of sample n is kept if its random word is >= p
// * 2^32; the words come from `position`, its sample counting up with n, so the backward pass is the same op
// on dy.
template <class T>
struct Dropout {
  const T* x;  // [N, PerSample]
  T* y;        // may be x
  RandomPosition position;
  double p;
  int n;
  std::int64_t per_sample;
};

// y[row] = [x[row] | x2[row]]: two tensors joined along their channels.
template <class T>
struct Concat {
  const T* x;   // [Rows, C]
  const T* x2;  // [Rows, C2]
  T* y;         // [Rows, C + C2]
  std::int64_t rows;
  int c, c2;
};

// The inverse: x[row] | x2[row] = y[row].
template <class T>
struct Split {
  const T* y;
  T* x;
  T* x2;
  std::int64_t rows;
  int c, c2;
};

// Whether dropout with probability p keeps the element that drew `word`.
DDPM_HOST_DEVICE inline bool dropout_keeps(std::uint32_t word, double p) { return word >= p * 0x1p32; }

// y += x
template <class T, Device D>
void add_to(const TensorView<T, D>& x, const TensorView<T, D>& y) {
  detail::check_shape("add_to", "x", x, y.shape());
  launch(y.device(), AddTo<T>{x.data(), y.data(), y.numel()});
  detail::check_outputs("add_to", y);
}

// y = x in another type
template <class From, class To, Device D>
void cast(const TensorView<From, D>& x, const TensorView<To, D>& y) {
  detail::check_shape("cast", "x", x, y.shape());
  launch(y.device(), Cast<From, To>{x.data(), y.data(), y.numel()});
  detail::check_outputs("cast", y);
}

// y = a x + b
template <class T, Device D>
void affine(const TensorView<T, D>& x, double a, double b, const TensorView<T, D>& y) {
  detail::check_shape("affine", "x", x, y.shape());
  launch(y.device(), Affine<T>{x.data(), y.data(), static_cast<Accumulator<T>>(a),
                               static_cast<Accumulator<T>>(b), y.numel()});
  detail::check_outputs("affine", y);
}

template <class T, Device D>
void dropout(const TensorView<T, D>& x, double p, const RandomPosition& position, const TensorView<T, D>& y) {
  detail::check_shape("dropout", "x", x, y.shape());
  check<ConfigError>(p >= 0 && p < 1, "dropout: the probability ", p, " is not in [0, 1)");
  const auto n = static_cast<int>(y.shape()[0]);
  launch(y.device(), Dropout<T>{x.data(), y.data(), position, p, n, n == 0 ? 0 : y.numel() / n});
  detail::check_outputs("dropout", y);
}

namespace detail {

template <class T, Device D>
std::int64_t concat_rows(const char* op, const TensorView<T, D>& x, const TensorView<T, D>& x2,
                         const TensorView<T, D>& y) {
  const int channels = joined_channels(op, x, x2);
  const Shape& s = x.shape();
  check_shape(op, "y", y, {s[0], s[1], s[2], channels});
  return s[0] * s[1] * s[2];
}

}  // namespace detail

template <class T, Device D>
void concat(const TensorView<T, D>& x, const TensorView<T, D>& x2, const TensorView<T, D>& y) {
  const std::int64_t rows = detail::concat_rows("concat", x, x2, y);
  launch(y.device(), Concat<T>{x.data(), x2.data(), y.data(), rows, static_cast<int>(x.shape()[3]),
                               static_cast<int>(x2.shape()[3])});
  detail::check_outputs("concat", y);
}

template <class T, Device D>
void split(const TensorView<T, D>& y, const TensorView<T, D>& x, const TensorView<T, D>& x2) {
  const std::int64_t rows = detail::concat_rows("split", x, x2, y);
  launch(y.device(), Split<T>{y.data(), x.data(), x2.data(), rows, static_cast<int>(x.shape()[3]),
                              static_cast<int>(x2.shape()[3])});
  detail::check_outputs("split", x, x2);
}

}  // namespace ddpm
