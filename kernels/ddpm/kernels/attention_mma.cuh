// SPDX-License-Identifier: MIT
// Self-attention of bf16, forward, on tensor cores.  Math and parameters: ddpm/ops/attention.hpp.
// Algorithm: that of attention.cuh by mma.sync, its weights rounded to bf16. A warp has 16 tokens, whose scores
// and result stay in its registers; scores become an operand where they are. The rows of the block's tokens stay in
// shared memory. All else arrives by cp.async in slices of 64 tokens and 64 channels, several ahead of their use.
// Cost: 2 products of L x L x D, rounded up to slices, that for scores once per 256 channels of the head dim; each
// block reads the head's keys and values once, mostly from L2.  Bound: mma.sync, L2.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include <ddpm/kernels/block/attention_head.cuh>
#include <ddpm/kernels/block/mma_tile.cuh>
#include <ddpm/kernels/block/reduce.cuh>

namespace ddpm::kernels {

template <int Tile, int Columns, int HeadDim>
struct AttentionMmaPolicy {
  using Element = bf16;
  static constexpr int tile = Tile;         // tokens of a block, 16 of each warp
  static constexpr int columns = Columns;   // channels of the result
  static constexpr int head_dim = HeadDim;  // at most
  static constexpr int threads = tile / 16 * warp_size;
  static constexpr int depth = 64;  // of a slice: its tokens, and its channels
  static constexpr int stages = 4;  // slices on their way
};
using NarrowAttentionMma = AttentionMmaPolicy<64, 64, 64>;
using WideAttentionMma = AttentionMmaPolicy<64, 256, 256>;
using DeepAttentionMma =
    AttentionMmaPolicy<32, 256, 512>;  // so few tokens that their rows fit in shared memory

template <class P, int Tokens>
using AttentionSlice = MmaSlice<Tokens, P::depth, Neighbours::depth>;

// Products: how many a score takes, each with rows of the block's tokens.
template <class P, int Products>
struct AttentionMmaShared {
  AttentionSlice<P, P::tile> rows[Products][P::head_dim / P::depth];
  AttentionSlice<P, P::depth> ring[P::stages];
};

// A warp's 16 tokens by the tokens or channels of a slice, in the layout of mma.sync.
template <class P>
using MmaScores = float[P::depth / 8][4];
template <class P>
using MmaResult = MmaScores<P>[P::columns / P::depth];

// Scores as the left operand of a product.
template <class P>
using MmaWeights = std::uint32_t[P::depth / 16][4];

// Where a thread's elements are: i of sums[j] in row() + 8 (i / 2) and column(j) + i % 2.
struct MmaPlace {
  int lane = static_cast<int>(threadIdx.x) % warp_size;
  int first_row = static_cast<int>(threadIdx.x) / warp_size * 16;  // of the warp

  __device__ __forceinline__ int row(int i) const { return first_row + lane / 4 + i / 2 * 8; }
  __device__ __forceinline__ int column(int j, int i) const { return 8 * j + lane % 4 * 2 + i % 2; }
};

// Copies slices of Tokens rows, one after the other along their channels. A source for MmaStaging.
template <class P, int Tokens>
struct HeadSlices {
  using Staging = MmaStaging<P, Tokens, Neighbours::depth>;
  HeadRows<const bf16> rows;

  __device__ __forceinline__ const bf16* at(int pass) const {
    const int token = Staging::line() + pass * Staging::lines_at_once, channel = Staging::depth();
    const bool exists = token < rows.tokens && channel < rows.dim;
    return exists ? rows.data + (token * rows.stride + channel) : nullptr;
  }
  __device__ __forceinline__ void move(int by) { rows = rows.from(0, by); }
  __device__ __forceinline__ void copy(AttentionSlice<P, Tokens>& to) { Staging::copy(*this, to); }
};

// What a block reads once per tile of scores: factors of their products, and what they are weights of.
template <int Products>
struct AttentionColumns {
  HeadRows<const bf16> factor[2], weighted;

  __device__ __forceinline__ HeadRows<const bf16> part(int i) const {
    HeadRows<const bf16> rows = i == 0 ? factor[0] : i < Products ? factor[1] : weighted;
    rows.tokens = weighted.tokens;  // as they all have; a select would take a register
    return rows;
  }
};

// Slices of all columns in the order of their use.
template <class P, int Products>
class SliceRing {
 public:
  using Slice = AttentionSlice<P, P::depth>;

  __device__ __forceinline__ SliceRing(Slice (&stages)[P::stages], const AttentionColumns<Products>& columns)
      : stages_(stages), columns_(columns), source_{columns.part(0)} {
#pragma unroll
    for (unsigned stage = 0; stage < P::stages - 1; ++stage) fetch(stage);
  }

  // The next slice, for all threads of the block. The one before is not to be read any more.
  __device__ __forceinline__ Slice& next() {
    arch::cp_async_wait<P::stages - 2>();
    __syncthreads();
    fetch(taken_ + P::stages - 1);
    return stages_[taken_++ % P::stages];
  }

 private:
  __device__ __forceinline__ void fetch(unsigned slice) {
    if (source_.rows.tokens > 0) {
      source_.copy(stages_[slice % P::stages]);
      if (source_.rows.dim <= 0) begin_next_part();
    }
    arch::cp_async_commit();  // without copies too, so that the groups in flight are as many as stages
  }
  __device__ __forceinline__ void begin_next_part() {
    part_ = part_ == Products ? 0 : part_ + 1;
    if (part_ == 0) token_ += P::depth;
    source_ = {columns_.part(part_).from(token_)};
  }

  Slice (&stages_)[P::stages];
  AttentionColumns<Products> columns_;
  HeadSlices<P, P::depth> source_;
  int part_ = 0, token_ = 0;  // of the source
  unsigned taken_ = 0;
};

// To be followed by a SliceRing, which waits for them.
template <class P, int Slices>
__device__ __forceinline__ void copy_row_slices(AttentionSlice<P, P::tile> (&to)[Slices],
                                                const HeadRows<const bf16>& from) {
  HeadSlices<P, P::tile> source{from};
  for (int i = 0; i * P::depth < from.dim; ++i) source.copy(to[i]);
}

// sums += left times a slice's 16 channels, or tokens where N is across, from `depth`.
template <Neighbours N, class P>
__device__ __forceinline__ void multiply_slice(const std::uint32_t (&left)[4],
                                               AttentionSlice<P, P::depth>& slice, int depth,
                                               MmaScores<P>& sums) {
#pragma unroll
  for (int j = 0; j < P::depth / 16; ++j) {
    std::uint32_t right[4];
    load_fragment<MmaOperand::b, N>(right, slice, 16 * j, depth);
    arch::mma_m16n8k16_bf16(sums[2 * j], left, {right[0], right[1]});
    arch::mma_m16n8k16_bf16(sums[2 * j + 1], left, {right[2], right[3]});
  }
}

// score = rows . columns
template <class P, int Products, int Slices>
__device__ __forceinline__ void multiply_rows(AttentionSlice<P, P::tile> (&rows)[Slices], int dim,
                                              SliceRing<P, Products>& ring, MmaScores<P>& score) {
  for (int i = 0; i * P::depth < dim; ++i) {
    auto& columns = ring.next();
#pragma unroll 2  // unrolled further, it spills
    for (int depth = 0; depth < P::depth; depth += 16) {
      std::uint32_t left[4];
      load_fragment<MmaOperand::a, Neighbours::depth>(left, rows[i], MmaPlace{}.first_row, depth);
      multiply_slice<Neighbours::depth, P>(left, columns, depth, score);
    }
  }
}

// sum += weight . the ring's next rows, of `dim` channels
template <class P, int Products>
__device__ __forceinline__ void add_weighted_slices(const MmaScores<P>& weight, int dim,
                                                    SliceRing<P, Products>& ring, MmaResult<P>& sum) {
  MmaWeights<P> left;
#pragma unroll
  for (int k = 0; k < P::depth / 16; ++k)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&from)[4] = weight[2 * k + i / 2];
      left[k][i] = arch::to_bf16_pair(from[i % 2 * 2], from[i % 2 * 2 + 1]);
    }
#pragma unroll
  for (int j = 0; j < P::columns / P::depth; ++j) {
    if (j * P::depth >= dim) break;
    auto& rows = ring.next();
#pragma unroll
    for (int k = 0; k < P::depth / 16; ++k)
      multiply_slice<Neighbours::across, P>(left[k], rows, 16 * k, sum[j]);
  }
}

// The result leaves in chunks, by way of the warp's own rows in shared memory.
template <class P, int Slices>
__device__ __forceinline__ void store_mma_result(const HeadRows<bf16>& to, const MmaResult<P>& sum,
                                                 AttentionSlice<P, P::tile> (&staging)[Slices]) {
  const MmaPlace own;
#pragma unroll
  for (int slice = 0; slice < P::columns / P::depth; ++slice)
#pragma unroll
    for (int j = 0; j < P::depth / 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        const Pack<std::uint32_t, 1> pair{{arch::to_bf16_pair(sum[slice][j][i], sum[slice][j][i + 1])}};
        pair.store(static_cast<std::uint32_t*>(staging[slice].at(own.row(i), j)) + own.lane % 4);
      }
  __syncwarp();
  constexpr int chunks = P::depth / chunk;
  for (int slice = 0; slice * P::depth < to.dim; ++slice)
#pragma unroll
    for (int row = own.lane / chunks; row < 16; row += warp_size / chunks) {
      const int token = own.first_row + row, i = own.lane % chunks, channel = slice * P::depth + i * chunk;
      if (token < to.tokens && channel < to.dim)
        Pack<bf16, chunk>::load(static_cast<bf16*>(staging[slice].at(token, i)))
            .store(to.data + (token * to.stride + channel));
    }
}

// Of a thread's two rows, over the tiles so far.
struct OnlineSoftmax {
  float largest[2] = {-INFINITY, -INFINITY};  // of the scores
  float total[2] = {};                        // of the weights in the thread's own columns

  // Scores become weights, 0 for columns that do not exist. Sums with earlier weights are to be multiplied by `kept`.
  template <class P>
  __device__ __forceinline__ void weigh(MmaScores<P>& score, int columns, float scale, float (&kept)[2]) {
    const MmaPlace own;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = largest[half];
#pragma unroll
      for (int j = 0; j < P::depth / 8; ++j)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          score[j][i] = own.column(j, i) < columns ? score[j][i] * scale : -INFINITY;
          most = fmaxf(most, score[j][i]);
        }
      most = warp_max<4>(most);
      kept[half] = std::exp2(largest[half] - most);
      largest[half] = most;
      total[half] *= kept[half];
#pragma unroll
      for (int j = 0; j < P::depth / 8; ++j)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          score[j][i] = std::exp2(score[j][i] - most);
          total[half] += score[j][i];
        }
    }
  }
};

// sum[...][i] *= factor[i / 2], by rows
template <class P>
__device__ __forceinline__ void scale_rows(MmaResult<P>& sum, const float (&factor)[2]) {
#pragma unroll
  for (auto& slice : sum)
#pragma unroll
    for (auto& element : slice)
#pragma unroll
      for (int i = 0; i < 4; ++i) element[i] *= factor[i / 2];
}

template <class P>
__global__ __launch_bounds__(P::threads) void attention_mma_kernel(
    const __grid_constant__ AttentionForward<bf16> p) {
  auto& shared = shared_memory<AttentionMmaShared<P, 1>>();
  const MmaPlace own;
  const auto block = AttentionBlock::of_grid<P>(p.shape, QuadAccess::vector);
  const auto query = block.part(p.qkv, AttentionPart::query).from(block.token),
             key = block.part(p.qkv, AttentionPart::key),
             value = block.part(p.qkv, AttentionPart::value).channels(block.channel, P::columns);
  copy_row_slices<P>(shared.rows[0], query);
  SliceRing<P, 1> ring(shared.ring, {{key}, value});
  const float scale = p.scale * std::numbers::log2e_v<float>;  // the weights are powers of 2
  OnlineSoftmax softmax;
  MmaResult<P> sum = {};
  for (int first = 0; first < key.tokens; first += P::depth) {
    MmaScores<P> score = {};
    multiply_rows<P>(shared.rows[0], query.dim, ring, score);
    float kept[2];
    softmax.weigh<P>(score, key.tokens - first, scale, kept);
    scale_rows<P>(sum, kept);
    add_weighted_slices<P>(score, value.dim, ring, sum);
  }
  float share[2];  // of a weight of 1
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = warp_sum<4>(softmax.total[half]);
    share[half] = 1 / total;
    const int row = own.row(2 * half);
    if (block.channel == 0 && own.lane % 4 == 0 && row < query.tokens)
      p.logsumexp[block.first_row() + block.token + row] =
          (softmax.largest[half] + std::log2(total)) * std::numbers::ln2_v<float>;
  }
  scale_rows<P>(sum, share);
  const auto out = block.rows(p.out, p.shape.channels()).channels(block.channel, P::columns);
  store_mma_result<P>(out.from(block.token), sum, shared.rows[0]);
}

// Whether chunks lie within a head's rows, and those of some tokens in shared memory.
inline bool mma_takes(const AttentionGeometry& s) {
  return s.head_dim % chunk == 0 && s.head_dim <= DeepAttentionMma::head_dim;
}

inline bool supports_mma(const AttentionForward<bf16>& p) {
  return mma_takes(p.shape) && is_aligned<chunk>(p.qkv) && is_aligned<chunk>(p.out);
}

// Calls run(policy) with the one for a head dim.
template <class Run>
void with_attention_mma_policy(int head_dim, const Run& run) {
  if (head_dim <= NarrowAttentionMma::head_dim)
    run(NarrowAttentionMma{});
  else if (head_dim <= WideAttentionMma::head_dim)
    run(WideAttentionMma{});
  else
    run(DeepAttentionMma{});
}

template <GpuLike D>
void launch_attention_mma(const D& device, const AttentionForward<bf16>& p) {
  with_attention_mma_policy(p.shape.head_dim, [&]<class P>(P) {
    launch_kernel<AttentionMmaShared<P, 1>>(device, attention_grid<P>(p.shape), P::threads,
                                            attention_mma_kernel<P>, p);
  });
}

}  // namespace ddpm::kernels
