// SPDX-License-Identifier: MIT
// A reduction in a fixed order: the squared norm of a flat buffer.
#pragma once

#include <ddpm/core/debug.hpp>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm {

// out[0] = sum of x[i]^2; T is the type of the buffer.
template <class T>
struct SquaredNorm {
  const T* x;
  T* out;
  std::int64_t count;
};

template <class T, Device D>
void squared_norm(const TensorView<T, D>& x, const TensorView<T, D>& out) {
  detail::check_shape("squared_norm", "out", out, {1});
  launch(x.device(), SquaredNorm<T>{x.data(), out.data(), x.numel()});
  detail::check_outputs("squared_norm", out);
}

}  // namespace ddpm
