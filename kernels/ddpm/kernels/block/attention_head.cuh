// SPDX-License-Identifier: MIT
// The rows of a head in the tensors of attention, and the block that works on some of them.
#pragma once

#include <cstdint>

#include <ddpm/kernels/block/quad.cuh>
#include <ddpm/ops/attention.hpp>

namespace ddpm::kernels {

enum class AttentionPart { query, key, value };

// Rows of one head, in any of its tensors.
template <class T>
struct HeadRows {
  T* data;
  int stride;       // from token to token
  int tokens, dim;  // that are left
  QuadAccess access;

  __device__ __forceinline__ HeadRows from(int token, int channel = 0) const {
    return {data + std::int64_t{token} * stride + channel, stride, tokens - token, dim - channel, access};
  }
  // Of these channels, as far as they exist.
  __device__ __forceinline__ HeadRows channels(int first, int count) const {
    HeadRows some = from(0, first);
    some.dim = min(count, some.dim);
    return some;
  }

  // Of a token within the tile that starts here. Leaves `to` alone beyond the last token and channel.
  __device__ __forceinline__ void load(int token, int channel, float (&to)[quad]) const {
    if (token >= tokens || channel >= dim) return;
    const T* const first = data + (token * stride + channel);
    if (access == QuadAccess::vector)
      load_quad<QuadAccess::vector, CacheHint::keep>(first, quad, to);
    else
      load_quad<QuadAccess::scalar>(first, min(quad, dim - channel), to);
  }

  __device__ __forceinline__ void store(int token, int channel, const float (&from)[quad]) const {
    if (token >= tokens || channel >= dim) return;
    T* const first = data + (token * stride + channel);
    if (access == QuadAccess::vector)
      store_quad<QuadAccess::vector>(first, quad, from);
    else
      store_quad<QuadAccess::scalar>(first, min(quad, dim - channel), from);
  }
};

// What a block works on.
struct AttentionBlock {
  AttentionGeometry shape;
  QuadAccess access;
  int token, channel;  // the first
  int head, n;

  template <class P>
  __device__ __forceinline__ static AttentionBlock of_grid(const AttentionGeometry& shape,
                                                           QuadAccess access) {
    const int tiles = (shape.tokens + P::tile - 1) / P::tile, x = static_cast<int>(blockIdx.x);
    return {shape,
            access,
            x % tiles * P::tile,
            static_cast<int>(blockIdx.y) * P::columns,
            x / tiles % shape.heads,
            x / tiles / shape.heads};
  }

  // Of a tensor [N, L, 3 C].
  template <class T>
  __device__ __forceinline__ HeadRows<T> part(T* qkv, AttentionPart part) const {
    return rows(qkv + static_cast<int>(part) * shape.channels(), 3 * shape.channels());
  }

  // Of a tensor whose tokens are `stride` apart.
  template <class T>
  __device__ __forceinline__ HeadRows<T> rows(T* tensor, int stride) const {
    return {tensor + std::int64_t{n} * shape.tokens * stride + head * shape.head_dim, stride, shape.tokens,
            shape.head_dim, access};
  }

  // The head's place in a tensor [N, heads, L].
  __device__ __forceinline__ std::int64_t first_row() const {
    return (std::int64_t{n} * shape.heads + head) * shape.tokens;
  }
};

template <class P>
dim3 attention_grid(const AttentionGeometry& s) {
  return {blocks_for(s.tokens, P::tile) * static_cast<unsigned>(s.n * s.heads),
          blocks_for(s.head_dim, P::columns)};
}

template <class T>
struct AttentionBackwardCall {
  AttentionBackward<T> op;
  float* dot;  // [N, heads, L], dout . out
  QuadAccess access;
};

}  // namespace ddpm::kernels
