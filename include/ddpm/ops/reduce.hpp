// SPDX-License-Identifier: MIT
// Reductions in a fixed order: the gradient of a bias, and the squared norm of a flat buffer.
#pragma once

#include <ddpm/core/debug.hpp>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm {

// per_sample[n,c] = sum over pixels of dy[n,hw,c];  dbias[c] += sum over n of that
template <class T>
struct BiasBackward {
  const T* dy;            // [N, HW, C]
  T* per_sample;          // [N, C], or null
  Accumulator<T>* dbias;  // [C], or null
  int n, hw, c;
};

// out[0] = sum of x[i]^2; T is the type of the buffer.
template <class T>
struct SquaredNorm {
  const T* x;
  T* out;
  std::int64_t count;
};

// Either output may be empty.
template <class T, Device D>
void bias_backward(const TensorView<T, D>& dy, const TensorView<T, D>& per_sample,
                   const TensorView<Accumulator<T>, D>& dbias) {
  const Shape& s = dy.shape();
  check(s.rank() >= 2, "bias_backward: dy must be [N, ..., C], found ", s);
  const std::int64_t n = s[0], c = s[s.rank() - 1];
  detail::check_optional("bias_backward", "per_sample", per_sample, {n, c});
  detail::check_optional("bias_backward", "dbias", dbias, {c});
  const std::int64_t hw = n * c == 0 ? 0 : dy.numel() / (n * c);
  launch(dy.device(), BiasBackward<T>{dy.data(), per_sample.data(), dbias.data(), static_cast<int>(n),
                                      static_cast<int>(hw), static_cast<int>(c)});
  detail::check_outputs("bias_backward", per_sample, dbias);
}

template <class T, Device D>
void squared_norm(const TensorView<T, D>& x, const TensorView<T, D>& out) {
  detail::check_shape("squared_norm", "out", out, {1});
  launch(x.device(), SquaredNorm<T>{x.data(), out.data(), x.numel()});
  detail::check_outputs("squared_norm", out);
}

}  // namespace ddpm
