// SPDX-License-Identifier: MIT
// Self-attention of bf16, backward, on tensor cores.  Math and parameters: ddpm/ops/attention.hpp.
// Algorithm: the passes of attention.cuh for dQ, dK and dV by mma.sync, as attention_mma.cuh does the forward.
// Cost: 8 products of L x L x D, rounded up to slices, those for scores once per 256 channels of the head dim; each
// block reads three parts of the head once, mostly from L2.  Bound: mma.sync, L2.
#pragma once

#include <ddpm/kernels/attention_mma.cuh>

namespace ddpm::kernels {

template <class P, int Products>
struct AttentionMmaBackwardShared {
  AttentionMmaShared<P, Products> slices;
  float logsumexp[P::depth], dot[P::depth];  // of a tile's queries, the former in units of log 2
};

template <AttentionPart Part>
inline constexpr int backward_products = Part == AttentionPart::value ? 1 : 2;

// Scores become what the rows of the pass are weighted with, 0 for columns that do not exist.
template <class P, AttentionPart Part, class Shared>
__device__ __forceinline__ void weigh_backward(MmaScores<P>& score, const MmaScores<P>& dweight, int columns,
                                               float scale, const Shared& shared) {
  const MmaPlace own;
  const float scale_of_2 = scale * std::numbers::log2e_v<float>;  // the weights are powers of 2
#pragma unroll
  for (int j = 0; j < P::depth / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = own.column(j, i), query = Part == AttentionPart::query ? own.row(i) : column;
      const float power = score[j][i] * scale_of_2 - shared.logsumexp[query];
      score[j][i] = column < columns ? std::exp2(power) : 0;
      if constexpr (Part != AttentionPart::value) score[j][i] *= (dweight[j][i] - shared.dot[query]) * scale;
    }
}

// The gradient of one part of qkv. Scores are [queries, keys] for dQ and [keys, queries] for dK and dV.
template <class P, AttentionPart Part>
__global__ __launch_bounds__(P::threads) void attention_mma_backward_kernel(
    const __grid_constant__ AttentionBackwardCall<bf16> p) {
  constexpr bool of_query = Part == AttentionPart::query, of_value = Part == AttentionPart::value;
  constexpr int products = backward_products<Part>;
  auto& shared = shared_memory<AttentionMmaBackwardShared<P, products>>();
  auto& rows = shared.slices.rows;
  const auto block = AttentionBlock::of_grid<P>(p.op.shape, QuadAccess::vector);
  const auto query = block.part(p.op.qkv, AttentionPart::query),
             key = block.part(p.op.qkv, AttentionPart::key),
             value = block.part(p.op.qkv, AttentionPart::value),
             dout = block.rows(p.op.dout, p.op.shape.channels());
  const auto row = (of_query ? query : key).from(block.token);
  const auto weighted = (of_query ? key : of_value ? dout : query).channels(block.channel, P::columns);
  copy_row_slices<P>(rows[0], row);
  if constexpr (!of_value) copy_row_slices<P>(rows[1], (of_query ? dout : value).from(block.token));
  SliceRing<P, products> ring(shared.slices.ring,
                              {{of_query ? key : query, of_query ? value : dout}, weighted});

  const auto read_statistics = [&](int first) {
    const int own = static_cast<int>(threadIdx.x);
    if (own >= P::depth) return;
    const std::int64_t at = block.first_row() + first + own;
    const bool exists = first + own < query.tokens;
    shared.logsumexp[own] = exists ? p.op.logsumexp[at] * std::numbers::log2e_v<float> : 0;
    shared.dot[own] = exists ? p.dot[at] : 0;
  };
  if (of_query) read_statistics(block.token);
  MmaResult<P> sum = {};
  for (int first = 0; first < query.tokens; first += P::depth) {
    if (!of_query) read_statistics(first);
    MmaScores<P> score = {}, dweight = {};
    multiply_rows<P>(rows[0], row.dim, ring, score);
    if constexpr (!of_value) multiply_rows<P>(rows[1], row.dim, ring, dweight);
    weigh_backward<P, Part>(score, dweight, query.tokens - first, p.op.scale, shared);
    add_weighted_slices<P>(score, weighted.dim, ring, sum);
  }
  const auto gradient = block.part(p.op.dqkv, Part).channels(block.channel, P::columns);
  store_mma_result<P>(gradient.from(block.token), sum, rows[0]);
}

inline bool supports_mma(const AttentionBackward<bf16>& p) {
  return mma_takes(p.shape) && is_aligned<chunk>(p.qkv) && is_aligned<chunk>(p.dout) &&
         is_aligned<chunk>(p.dqkv);
}

template <GpuLike D>
void launch_attention_mma(const D& device, const AttentionBackwardCall<bf16>& p) {
  with_attention_mma_policy(p.op.shape.head_dim, [&]<class P>(P) {
    const auto launch_part = [&]<AttentionPart Part>() {
      launch_kernel<AttentionMmaBackwardShared<P, backward_products<Part>>>(
          device, attention_grid<P>(p.op.shape), P::threads, attention_mma_backward_kernel<P, Part>, p);
    };
    launch_part.template operator()<AttentionPart::query>();
    launch_part.template operator()<AttentionPart::key>();
    launch_part.template operator()<AttentionPart::value>();
  });
}

}  // namespace ddpm::kernels
