// SPDX-License-Identifier: MIT
// Self-attention, forward and backward.  Math and parameters: ddpm/ops/attention.hpp.
// Algorithm: a block owns 64 tokens of a head and up to 256 channels of their result. It walks the head's
// tokens 64 at a time: a tile of scores, summed over slices of the head dim; the tile's weights, by the
// online softmax of Milakov & Gimelshein 2018 going forward and from logsumexp going backward; the weighted
// rows, added in registers. The backward has a pass for each of dQ, dK and dV, after one for the dots of rows
// of dout and out, so it needs no atomics. Shared memory is the same for every head dim.
// Cost: forward 2, backward 8 products of L x L x D, those for scores once per 256 channels of the head dim;
// each block reads the head once, from L2 where it fits.  Bound: FFMA.
#pragma once

#include <cmath>
#include <type_traits>

#include <ddpm/core/tensor.hpp>
#include <ddpm/kernels/attention_mma.cuh>
#include <ddpm/kernels/attention_mma_backward.cuh>
#include <ddpm/kernels/block/attention_head.cuh>
#include <ddpm/kernels/block/reduce.cuh>
#include <ddpm/ops/attention.hpp>

namespace ddpm::kernels {

template <int Columns, int Depth>
struct AttentionPolicy {
  static constexpr int threads = 256;
  static constexpr int blocks = 2;                        // that a multiprocessor has at once, going forward
  static constexpr int tile = 64;                         // tokens along both sides of a tile of scores
  static constexpr int lanes = 16;                        // threads along a row of it
  static constexpr int rows = tile * lanes / threads;     // of a thread
  static constexpr int slice = 32;                        // channels in shared memory, for scores
  static constexpr int depth = Depth;                     // tokens in shared memory, to be weighted
  static constexpr int columns = Columns;                 // channels of the result
  static constexpr int packs = columns / (lanes * quad);  // of a thread, along a row of the result
};
using NarrowAttention = AttentionPolicy<64, 64>;
using WideAttention = AttentionPolicy<256, 16>;

using Quad = Pack<float, quad>;

// Rows lie 4 banks apart, so that 8 lanes read a pack of 8 rows at once.
template <int Rows, int Columns>
struct alignas(widest_access) RowTile {
  float value[Rows][Columns + quad];
};

template <class P>
struct AttentionShared {
  RowTile<P::tile, P::tile> weight;
  union {
    struct {
      RowTile<P::tile, P::slice> rows, columns;
    } factor;
    RowTile<P::depth, P::columns> weighted;
  } operand;
};

// The thread's rows and first column of a tile of scores; its columns are P::lanes apart.
template <class P>
struct ScorePlace {
  int row = static_cast<int>(threadIdx.x) / P::lanes * P::rows;
  int column = static_cast<int>(threadIdx.x) % P::lanes;
};

template <class P>
using ScoreTile = float[P::rows][P::tile / P::lanes];

template <class P>
using ResultTile = float[P::rows][P::packs][quad];

// Zeros stand for what lies beyond the last token and channel.
template <int Threads, int Rows, int Columns, class T>
__device__ __forceinline__ void copy_rows(RowTile<Rows, Columns>& to, const HeadRows<T>& from) {
  constexpr int quads = Columns / quad;
  const int column = static_cast<int>(threadIdx.x) % quads * quad;
  for (int row = static_cast<int>(threadIdx.x) / quads; row < Rows; row += Threads / quads) {
    Quad pack{};
    from.load(row, column, pack.value);
    pack.store(&to.value[row][column]);
  }
}

// score[i][j] += rows[i] . columns[j]
template <class P, class T>
__device__ __forceinline__ void add_products(AttentionShared<P>& shared, const HeadRows<T>& rows,
                                             const HeadRows<T>& columns, ScoreTile<P>& score) {
  const ScorePlace<P> own;
  auto& factor = shared.operand.factor;
  for (int channel = 0; channel < rows.dim; channel += P::slice) {
    __syncthreads();
    copy_rows<P::threads>(factor.rows, rows.from(0, channel));
    copy_rows<P::threads>(factor.columns, columns.from(0, channel));
    __syncthreads();
    const int count = own.row < rows.tokens ? min(P::slice, rows.dim - channel) : 0;
    for (int k = 0; k < count; k += quad) {
      Quad row[P::rows];
#pragma unroll
      for (int i = 0; i < P::rows; ++i) row[i] = Quad::load(&factor.rows.value[own.row + i][k]);
#pragma unroll
      for (int j = 0; j < P::tile / P::lanes; ++j) {
        if (j * P::lanes >= columns.tokens) break;
        const auto column = Quad::load(&factor.columns.value[own.column + j * P::lanes][k]);
#pragma unroll
        for (int i = 0; i < P::rows; ++i)
#pragma unroll
          for (int c = 0; c < quad; ++c) score[i][j] += row[i][c] * column[c];
      }
    }
  }
}

// sum[i] += weight[i][j] * rows[j] over the tile's columns j. Of the tile's rows, `count` exist.
template <class P, class T>
__device__ __forceinline__ void add_weighted(AttentionShared<P>& shared, int count, const HeadRows<T>& rows,
                                             ResultTile<P>& sum) {
  const ScorePlace<P> own;
  auto& tile = shared.operand.weighted;
  const int tokens = min(P::tile, rows.tokens);
  for (int first = 0; first < tokens; first += P::depth) {
    __syncthreads();
    copy_rows<P::threads>(tile, rows.from(first));
    __syncthreads();
    const int depth = own.row < count ? min(P::depth, tokens - first) : 0;
    for (int k = 0; k < depth; k += quad) {
      Quad weight[P::rows];
#pragma unroll
      for (int i = 0; i < P::rows; ++i) weight[i] = Quad::load(&shared.weight.value[own.row + i][first + k]);
#pragma unroll
      for (int token = 0; token < quad; ++token)
#pragma unroll
        for (int j = 0; j < P::packs; ++j) {
          if (j * P::lanes * quad >= rows.dim) break;
          const auto value = Quad::load(&tile.value[k + token][(j * P::lanes + own.column) * quad]);
#pragma unroll
          for (int i = 0; i < P::rows; ++i)
#pragma unroll
            for (int c = 0; c < quad; ++c) sum[i][j][c] += weight[i][token] * value[c];
        }
    }
  }
}

template <class P, class T>
__device__ __forceinline__ void store_result(const HeadRows<T>& to, const ResultTile<P>& sum) {
  const ScorePlace<P> own;
#pragma unroll
  for (int i = 0; i < P::rows; ++i)
#pragma unroll
    for (int j = 0; j < P::packs; ++j) to.store(own.row + i, (j * P::lanes + own.column) * quad, sum[i][j]);
}

template <class T>
struct AttentionForwardCall {
  AttentionForward<T> op;
  QuadAccess access;
};

template <class P, class T>
__global__ __launch_bounds__(P::threads, P::blocks) void attention_kernel(
    const __grid_constant__ AttentionForwardCall<T> p) {
  auto& shared = shared_memory<AttentionShared<P>>();
  const ScorePlace<P> own;
  const auto block = AttentionBlock::of_grid<P>(p.op.shape, p.access);
  const auto query = block.part(p.op.qkv, AttentionPart::query).from(block.token);
  const auto key = block.part(p.op.qkv, AttentionPart::key),
             value = block.part(p.op.qkv, AttentionPart::value);
  ResultTile<P> sum = {};
  float largest[P::rows], total[P::rows] = {};  // total: of the thread's own columns
  for (float& score : largest) score = -INFINITY;
  for (int first = 0; first < key.tokens; first += P::tile) {
    ScoreTile<P> score = {};
    add_products<P>(shared, query, key.from(first), score);
#pragma unroll
    for (int i = 0; i < P::rows; ++i) {
      float most = largest[i];
      for (int j = 0; j < P::tile / P::lanes; ++j) {
        const bool exists = own.column + j * P::lanes < key.tokens - first;
        score[i][j] = exists ? score[i][j] * p.op.scale : -INFINITY;
        most = fmaxf(most, score[i][j]);
      }
      most = warp_max<P::lanes>(most);
      const float kept = std::exp(largest[i] - most);
      largest[i] = most;
      total[i] *= kept;
      for (auto& pack : sum[i])
        for (float& element : pack) element *= kept;
      for (int j = 0; j < P::tile / P::lanes; ++j) {
        const float weight = std::exp(score[i][j] - most);
        total[i] += weight;
        shared.weight.value[own.row + i][own.column + j * P::lanes] = weight;
      }
    }
    add_weighted<P>(shared, query.tokens, value.from(first, block.channel), sum);
  }
  for (int i = 0; i < P::rows; ++i) {
    total[i] = warp_sum<P::lanes>(total[i]);
    for (auto& pack : sum[i])
      for (float& element : pack) element /= total[i];
    if (block.channel == 0 && own.column == 0 && own.row + i < query.tokens)
      p.op.logsumexp[block.first_row() + block.token + own.row + i] = largest[i] + std::log(total[i]);
  }
  store_result<P>(block.rows(p.op.out, p.op.shape.channels()).from(block.token, block.channel), sum);
}

template <class P, class T>
__global__ __launch_bounds__(P::threads) void attention_dot_kernel(
    const __grid_constant__ AttentionBackwardCall<T> p) {
  constexpr int lanes = 8;  // of a row
  const auto block = AttentionBlock::of_grid<P>(p.op.shape, p.access);
  const auto out = block.rows(p.op.out, p.op.shape.channels()).from(block.token);
  const auto dout = block.rows(p.op.dout, p.op.shape.channels()).from(block.token);
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  for (int row = static_cast<int>(threadIdx.x) / lanes; row < P::tile; row += P::threads / lanes) {
    float sum = 0;
    for (int channel = lane * quad; channel < out.dim; channel += lanes * quad) {
      float a[quad] = {}, b[quad] = {};
      out.load(row, channel, a);
      dout.load(row, channel, b);
      for (int i = 0; i < quad; ++i) sum += a[i] * b[i];
    }
    sum = warp_sum<lanes>(sum);
    if (lane == 0 && row < out.tokens) p.dot[block.first_row() + block.token + row] = sum;
  }
}

// The gradient of one part of qkv. Scores are [queries, keys] for dQ and [keys, queries] for dK and dV.
template <class P, AttentionPart Part, class T>
__global__ __launch_bounds__(P::threads) void attention_backward_kernel(
    const __grid_constant__ AttentionBackwardCall<T> p) {
  constexpr bool of_query = Part == AttentionPart::query, of_value = Part == AttentionPart::value;
  auto& shared = shared_memory<AttentionShared<P>>();
  const ScorePlace<P> own;
  const auto block = AttentionBlock::of_grid<P>(p.op.shape, p.access);
  const auto query = block.part(p.op.qkv, AttentionPart::query),
             key = block.part(p.op.qkv, AttentionPart::key),
             value = block.part(p.op.qkv, AttentionPart::value),
             dout = block.rows(p.op.dout, p.op.shape.channels());
  const auto row = (of_query ? query : key).from(block.token), column = of_query ? key : query;
  const auto dweight_row = (of_query ? dout : value).from(block.token),
             dweight_column = of_query ? value : dout;
  const float *const logsumexp = p.op.logsumexp + block.first_row(), *const dot = p.dot + block.first_row();
  ResultTile<P> sum = {};
  for (int first = 0; first < column.tokens; first += P::tile) {
    ScoreTile<P> score = {}, dweight = {};
    add_products<P>(shared, row, column.from(first), score);
    if constexpr (!of_value) add_products<P>(shared, dweight_row, dweight_column.from(first), dweight);
#pragma unroll
    for (int i = 0; i < P::rows; ++i)
#pragma unroll
      for (int j = 0; j < P::tile / P::lanes; ++j) {
        const int r = own.row + i, c = own.column + j * P::lanes;
        float weight = 0;
        if (r < row.tokens && c < column.tokens - first) {
          const int at = of_query ? block.token + r : first + c;
          weight = std::exp(score[i][j] * p.op.scale - logsumexp[at]);
          if constexpr (!of_value) weight *= (dweight[i][j] - dot[at]) * p.op.scale;
        }
        shared.weight.value[r][c] = weight;
      }
    const auto weighted = of_query ? key : of_value ? dout : query;
    add_weighted<P>(shared, row.tokens, weighted.from(first, block.channel), sum);
  }
  store_result<P>(block.part(p.op.dqkv, Part).from(block.token, block.channel), sum);
}

// Calls body(policy) with the one for a head dim.
template <class Body>
void with_attention_policy(int head_dim, const Body& body) {
  if (head_dim <= NarrowAttention::columns)
    body(NarrowAttention{});
  else
    body(WideAttention{});
}

}  // namespace ddpm::kernels

namespace ddpm {

// `automatic` is the fastest that takes the operands; `mma` takes those of supports_mma().
enum class AttentionAlgorithm { automatic, general, mma };

namespace kernels {

// Whether the tensor cores compute p.
template <template <class> class Op, class T>
bool uses_mma(const Op<T>& p, AttentionAlgorithm algorithm) {
  bool is_supported = false;
  if constexpr (std::is_same_v<T, bf16>) is_supported = supports_mma(p);
  check<ConfigError>(algorithm != AttentionAlgorithm::mma || is_supported,
                     "attention: tensor cores need bf16, a head dim that is a multiple of ", chunk, " up to ",
                     DeepAttentionMma::head_dim, " and tensors aligned to 16 bytes, found ", sizeof(T),
                     " bytes per element and a head dim of ", p.shape.head_dim);
  return is_supported && algorithm != AttentionAlgorithm::general;
}

}  // namespace kernels

template <GpuLike D, class T>
void launch(const D& device, const AttentionForward<T>& p,
            AttentionAlgorithm algorithm = AttentionAlgorithm::automatic) {
  using namespace kernels;
  if (uses_mma(p, algorithm)) {
    if constexpr (std::is_same_v<T, bf16>) launch_attention_mma(device, p);
    return;
  }
  const AttentionForwardCall<T> call{p, quad_access(p.shape.head_dim, p.qkv, p.out)};
  with_attention_policy(p.shape.head_dim, [&]<class P>(P) {
    launch_kernel<AttentionShared<P>>(device, attention_grid<P>(p.shape), P::threads, attention_kernel<P, T>,
                                      call);
  });
}

template <GpuLike D, class T>
void launch(const D& device, const AttentionBackward<T>& p,
            AttentionAlgorithm algorithm = AttentionAlgorithm::automatic) {
  using namespace kernels;
  const Tensor<float, D> dot(device, {p.shape.n, p.shape.heads, p.shape.tokens});
  const AttentionBackwardCall<T> call{p, dot.data(),
                                      quad_access(p.shape.head_dim, p.qkv, p.out, p.dout, p.dqkv)};
  launch_kernel(device, attention_grid<NarrowAttention>(p.shape).x, NarrowAttention::threads,
                attention_dot_kernel<NarrowAttention, T>, call);
  if (uses_mma(p, algorithm)) {
    if constexpr (std::is_same_v<T, bf16>) launch_attention_mma(device, call);
    return;
  }
  with_attention_policy(p.shape.head_dim, [&]<class P>(P) {
    for (const auto kernel : {attention_backward_kernel<P, AttentionPart::query, T>,
                              attention_backward_kernel<P, AttentionPart::key, T>,
                              attention_backward_kernel<P, AttentionPart::value, T>})
      launch_kernel<AttentionShared<P>>(device, attention_grid<P>(p.shape), P::threads, kernel, call);
  });
}

}  // namespace ddpm
