// SPDX-License-Identifier: MIT
// Multi-head self-attention over the tokens of each sample, forward and backward.
//
//   P[n,h] = softmax(scale * Q[n,h] K[n,h]^T) by rows,  out[n,:,h] = P[n,h] V[n,h]
//
// Q, K and V lie beside each other in one tensor [N, L, 3 C]; head h owns channels h*D to h*D + D - 1 of
// each, C = heads * D. The backward recomputes P from the logarithm of each row's sum of exponentials, so no
// L x L matrix is kept.
#pragma once

#include <ddpm/core/debug.hpp>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm {

struct AttentionGeometry {
  int n, tokens, heads, head_dim;

  DDPM_HOST_DEVICE int channels() const { return heads * head_dim; }
};

template <class T>
struct AttentionForward {
  AttentionGeometry shape;
  const T* qkv;  // [N, L, 3 C]
  Accumulator<T> scale;
  T* out;                     // [N, L, C]
  Accumulator<T>* logsumexp;  // [N, heads, L], of the scaled scores
};

template <class T>
struct AttentionBackward {
  AttentionGeometry shape;
  const T* qkv;
  const T* out;
  const T* dout;
  const Accumulator<T>* logsumexp;
  Accumulator<T> scale;
  T* dqkv;  // [N, L, 3 C], overwritten
};

struct AttentionOptions {
  int heads = 1;
  double scale = 1;  // usually 1 / sqrt(head dim)
};

namespace detail {

template <class T, Device D>
AttentionGeometry attention_geometry(const char* op, const TensorView<T, D>& qkv, const TensorView<T, D>& out,
                                     int heads) {
  const Shape &a = qkv.shape(), &b = out.shape();
  check(a.rank() == 3 && b.rank() == 3 && a[0] == b[0] && a[1] == b[1] && a[2] == 3 * b[2], op, ": qkv is ",
        a, " and out ", b, ", expected [N, L, 3 C] and [N, L, C]");
  check<ConfigError>(heads >= 1 && b[2] % heads == 0, op, ": ", b[2], " channels are not divisible by ",
                     heads, " heads");
  return {static_cast<int>(b[0]), static_cast<int>(b[1]), heads, static_cast<int>(b[2]) / heads};
}

}  // namespace detail

template <class T, Device D>
void attention(const TensorView<T, D>& qkv, const AttentionOptions& options, const TensorView<T, D>& out,
               const TensorView<Accumulator<T>, D>& logsumexp) {
  const AttentionGeometry s = detail::attention_geometry("attention", qkv, out, options.heads);
  detail::check_shape("attention", "logsumexp", logsumexp, {s.n, s.heads, s.tokens});
  launch(out.device(), AttentionForward<T>{s, qkv.data(), static_cast<Accumulator<T>>(options.scale),
                                           out.data(), logsumexp.data()});
  detail::check_outputs("attention", out);
}

// What the forward pass left for the backward.
template <class T, Device D>
struct AttentionSaved {
  TensorView<T, D> qkv;
  TensorView<T, D> out;
  TensorView<Accumulator<T>, D> logsumexp;
};

template <class T, Device D>
void attention_backward(const TensorView<T, D>& dout, const AttentionSaved<T, D>& saved,
                        const AttentionOptions& options, const TensorView<T, D>& dqkv) {
  const AttentionGeometry s =
      detail::attention_geometry("attention_backward", saved.qkv, saved.out, options.heads);
  detail::check_shape("attention_backward", "dout", dout, saved.out.shape());
  detail::check_shape("attention_backward", "dqkv", dqkv, saved.qkv.shape());
  launch(dqkv.device(),
         AttentionBackward<T>{s, saved.qkv.data(), saved.out.data(), dout.data(), saved.logsumexp.data(),
                              static_cast<Accumulator<T>>(options.scale), dqkv.data()});
  detail::check_outputs("attention_backward", dqkv);
}

}  // namespace ddpm
