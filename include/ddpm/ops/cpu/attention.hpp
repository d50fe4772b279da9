// SPDX-License-Identifier: MIT
// Self-attention, a block of queries against all keys at a time. Math and parameters: ddpm/ops/attention.hpp.
//
// The scores of a block are kept transposed, [keys, queries]: the keys are then broadcast from where they
// lie, the softmax runs down the lanes without a horizontal step, and the weights lie as the product with V
// reads them, so K and V are never copied (unless a head is not a whole number of vectors). The backward pass
// makes scores and their gradients again, block by block, and adds to dK and dV in the order of the blocks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/attention.hpp>
#include <ddpm/ops/cpu/tile_product.hpp>

namespace ddpm {

namespace detail::cpu {

// The most queries of a block: a whole number of register tiles for every instruction set.
constexpr int attention_block = 48;
constexpr int attention_run = 32;

// For each query (a lane): largest = max over keys, sum = that of exp(score - largest), which replaces score.
struct SoftmaxDownLeaf {
  float* score;  // [keys, stride]
  std::ptrdiff_t stride;
  int keys, queries;  // queries: rounded up to whole vectors
  float* largest;
  float* sum;

  template <class V>
  [[gnu::always_inline]] static void run(const SoftmaxDownLeaf& p) {
    for (int q = 0; q < p.queries; q += V::width) {
      float* column = p.score + q;
      Floats<V> v, most, total{};
      load(most, column);
      for (int key = 1; key < p.keys; ++key) {
        load(v, column + key * p.stride);
        most = v > most ? v : most;
      }
      for (int first = 0; first < p.keys; first += attention_run) {
        const int last = first + attention_run < p.keys ? first + attention_run : p.keys;
        Floats<V> partial{};
        for (int key = first; key < last; ++key) {
          load(v, column + key * p.stride);
          exp_lanes<V>(v, v - most);
          partial += v;
          store(column + key * p.stride, v);
        }
        total += partial;
      }
      store(p.largest + q, most);
      store(p.sum + q, total);
    }
  }
};

// weight = exp(score - logsumexp) replaces score; dscore = scale * weight * (dweight - dot) replaces dweight.
struct SoftmaxDownBackwardLeaf {
  float* score;
  float* dweight;
  std::ptrdiff_t stride;
  int keys, queries;
  const float* logsumexp;
  const float* dot;
  float scale;

  template <class V>
  [[gnu::always_inline]] static void run(const SoftmaxDownBackwardLeaf& p) {
    for (int q = 0; q < p.queries; q += V::width) {
      Floats<V> l, dt, w, d;
      load(l, p.logsumexp + q);
      load(dt, p.dot + q);
      for (int key = 0; key < p.keys; ++key) {
        const std::ptrdiff_t at = key * p.stride + q;
        load(w, p.score + at);
        load(d, p.dweight + at);
        exp_lanes<V>(w, w - l);
        d = w * (d - dt) * p.scale;
        store(p.score + at, w);
        store(p.dweight + at, d);
      }
    }
  }
};

// out[i] = the dot product of rows i of a and b.
struct RowDotsLeaf {
  const float* a;
  const float* b;
  std::ptrdiff_t stride;
  int rows, columns;
  float* out;

  template <class V>
  [[gnu::always_inline]] static void run(const RowDotsLeaf& p) {
    for (int i = 0; i < p.rows; ++i) {
      Row<V> row{p.a + i * p.stride, p.b + i * p.stride, Floats<V>{}};
      sweep<V>(row, p.columns);
      p.out[i] = static_cast<float>(sum_of_lanes(row.sum));
    }
  }

 private:
  template <class Vector>
  struct Row {
    const float* a;
    const float* b;
    Floats<Vector> sum;

    template <class V, class Lanes>
    [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) {
      Floats<V> u, v;
      lanes.load(u, a + i);
      lanes.load(v, b + i);
      sum += u * v;
    }
  };
};

// A matrix in memory.
struct MatrixView {
  const float* data;
  std::ptrdiff_t stride;
};

// Queries [first, first + count) of one head.
struct QueryBlock {
  int first, count;
  int padded;  // to whole vectors
};

// Cuts the tokens into blocks of nearly equal numbers of vectors.
struct QueryBlocks {
  int tokens, width, vectors, blocks;

  explicit QueryBlocks(int token_count)
      : tokens(token_count),
        width(vector_width()),
        vectors(ceil_div(tokens, width)),
        blocks(ceil_div(vectors, attention_block / width)) {}

  QueryBlock operator[](int i) const {
    const int first = vectors * i / blocks * width, last = vectors * (i + 1) / blocks * width;
    return {first, std::min(last, tokens) - first, last - first};
  }
};

// One head of one sample.
struct AttentionHead {
  int n, head, tokens, dim;
  std::ptrdiff_t in_stride, out_stride;
  std::ptrdiff_t query, key, value, out;  // of the first element, in qkv and out
  std::ptrdiff_t row;                     // of the first token, in logsumexp

  AttentionHead(const AttentionGeometry& s, std::int64_t i)
      : n(static_cast<int>(i / s.heads)),
        head(static_cast<int>(i % s.heads)),
        tokens(s.tokens),
        dim(s.head_dim),
        in_stride(std::ptrdiff_t{3} * s.channels()),
        out_stride(s.channels()),
        query(std::ptrdiff_t{n} * s.tokens * in_stride + head * dim),
        key(query + s.channels()),
        value(key + s.channels()),
        out(std::ptrdiff_t{n} * s.tokens * out_stride + head * dim),
        row((std::ptrdiff_t{n} * s.heads + head) * s.tokens) {}
};

// `from` [rows, columns] if its rows are whole vectors, else a copy in `room` with rows padded by zeros.
inline MatrixView whole_vectors(const MatrixView& from, int rows, int columns, float* room) {
  const int padded = round_up(columns, vector_width());
  if (padded == columns) return from;
  for (int i = 0; i < rows; ++i) {
    std::memcpy(room + i * padded, from.data + i * from.stride,
                static_cast<std::size_t>(columns) * sizeof(float));
    std::fill(room + i * padded + columns, room + (i + 1) * padded, 0.0f);
  }
  return {room, padded};
}

// How much room that copy takes.
inline std::size_t whole_vectors_room(int rows, int columns) {
  const int padded = round_up(columns, vector_width());
  return padded == columns ? 0 : static_cast<std::size_t>(rows) * static_cast<std::size_t>(padded);
}

// to [dim, attention_block] = factor * the block's rows of `from`, transposed; zero where there is no query.
inline void transpose_queries(const MatrixView& from, const QueryBlock& block, int dim, float factor,
                              float* to) {
  run_leaf<TransposeLeaf<false>>(TransposeLeaf<false>{from.data + block.first * from.stride, from.stride, to,
                                                      attention_block, block.count, dim, factor});
  if (block.padded == block.count) return;
  for (int d = 0; d < dim; ++d)
    std::fill(to + d * attention_block + block.count, to + d * attention_block + block.padded, 0.0f);
}

// out [keys, attention_block] = rows (keys or values) times transposed queries.
inline void multiply_queries(const MatrixView& rows, const float* queries, const AttentionHead& h,
                             const QueryBlock& block, float* out) {
  static constexpr float one = 1;
  using Product = TileProduct<TileStore::scaled>;
  run_leaf<Product>(Product{rows.data, rows.stride, 1, queries, attention_block, out, attention_block, &one,
                            h.tokens, block.padded, h.dim});
}

struct AttentionScratch {};

inline void attention_forward_block(const AttentionForward<float>& p, const AttentionHead& h,
                                    const QueryBlock& block) {
  const auto block_size = static_cast<std::size_t>(attention_block);
  const auto keys = static_cast<std::size_t>(h.tokens), dim = static_cast<std::size_t>(h.dim);
  float* queries =
      thread_scratch<AttentionScratch>((dim + keys + 2) * block_size + whole_vectors_room(h.tokens, h.dim));
  float *scores = queries + dim * block_size, *largest = scores + keys * block_size;
  float *sum = largest + block_size, *room = sum + block_size;
  transpose_queries({p.qkv + h.query, h.in_stride}, block, h.dim, p.scale, queries);
  multiply_queries({p.qkv + h.key, h.in_stride}, queries, h, block, scores);
  run_leaf<SoftmaxDownLeaf>(SoftmaxDownLeaf{scores, attention_block, h.tokens, block.padded, largest, sum});
  for (int q = 0; q < block.count; ++q) {
    p.logsumexp[h.row + block.first + q] =
        static_cast<float>(static_cast<double>(largest[q]) + std::log(static_cast<double>(sum[q])));
    sum[q] = 1 / sum[q];
  }
  const MatrixView values = whole_vectors({p.qkv + h.value, h.in_stride}, h.tokens, h.dim, room);
  using Product = TileProduct<TileStore::scaled_by_row>;
  run_leaf<Product>(Product{scores, 1, attention_block, values.data, values.stride,
                            p.out + h.out + block.first * h.out_stride, h.out_stride, sum, block.count, h.dim,
                            h.tokens});
}

// What a backward task keeps: transposed queries and output gradients, scores and their gradients, and
// padded copies.
struct AttentionBackwardArrays {
  float *queries, *gradients, *scores, *dscores, *logsumexp, *dot, *room[3];

  explicit AttentionBackwardArrays(const AttentionHead& h) {
    const auto block = static_cast<std::size_t>(attention_block);
    const std::size_t transposed = static_cast<std::size_t>(h.dim) * block;
    const std::size_t square = static_cast<std::size_t>(h.tokens) * block;
    const std::size_t copy = whole_vectors_room(h.tokens, h.dim);
    queries = thread_scratch<AttentionScratch>(2 * transposed + 2 * square + 2 * block + 3 * copy);
    gradients = queries + transposed;
    scores = gradients + transposed;
    dscores = scores + square;
    logsumexp = dscores + square;
    dot = logsumexp + block;
    room[0] = dot + block;
    for (int i = 1; i < 3; ++i) room[i] = room[i - 1] + copy;
  }
};

// d [keys, dim] = weights [keys, queries] times rows of the block's queries; the first block overwrites.
inline void add_over_queries(const float* weights, const MatrixView& rows, const AttentionHead& h,
                             const QueryBlock& block, float* d) {
  static constexpr float one = 1;
  const float* b = rows.data + block.first * rows.stride;
  if (block.first == 0)
    run_leaf<TileProduct<TileStore::scaled>>(TileProduct<TileStore::scaled>{
        weights, attention_block, 1, b, rows.stride, d, h.in_stride, &one, h.tokens, h.dim, block.count});
  else
    run_leaf<TileProduct<TileStore::added>>(TileProduct<TileStore::added>{
        weights, attention_block, 1, b, rows.stride, d, h.in_stride, &one, h.tokens, h.dim, block.count});
}

inline void attention_backward_head(const AttentionBackward<float>& p, const AttentionHead& h) {
  static constexpr float one = 1;
  const AttentionBackwardArrays a(h);
  const MatrixView query{p.qkv + h.query, h.in_stride}, key{p.qkv + h.key, h.in_stride};
  const MatrixView value{p.qkv + h.value, h.in_stride}, dout{p.dout + h.out, h.out_stride};
  const MatrixView whole_query = whole_vectors(query, h.tokens, h.dim, a.room[0]);
  const MatrixView whole_key = whole_vectors(key, h.tokens, h.dim, a.room[1]);
  const MatrixView whole_dout = whole_vectors(dout, h.tokens, h.dim, a.room[2]);
  const QueryBlocks blocks(h.tokens);
  for (int i = 0; i < blocks.blocks; ++i) {
    const QueryBlock block = blocks[i];
    transpose_queries(query, block, h.dim, p.scale, a.queries);
    transpose_queries(dout, block, h.dim, 1, a.gradients);
    multiply_queries(key, a.queries, h, block, a.scores);
    multiply_queries(value, a.gradients, h, block, a.dscores);
    std::fill(a.logsumexp, a.logsumexp + attention_block, 0.0f);
    std::fill(a.dot, a.dot + attention_block, 0.0f);
    std::copy_n(p.logsumexp + h.row + block.first, block.count, a.logsumexp);
    const std::ptrdiff_t rows = h.out + block.first * h.out_stride;
    run_leaf<RowDotsLeaf>(RowDotsLeaf{p.out + rows, p.dout + rows, h.out_stride, block.count, h.dim, a.dot});
    run_leaf<SoftmaxDownBackwardLeaf>(SoftmaxDownBackwardLeaf{a.scores, a.dscores, attention_block, h.tokens,
                                                              block.padded, a.logsumexp, a.dot, p.scale});
    using Product = TileProduct<TileStore::scaled>;
    run_leaf<Product>(Product{a.dscores, 1, attention_block, whole_key.data, whole_key.stride,
                              p.dqkv + h.query + block.first * h.in_stride, h.in_stride, &one, block.count,
                              h.dim, h.tokens});
    add_over_queries(a.dscores, whole_query, h, block, p.dqkv + h.key);
    add_over_queries(a.scores, whole_dout, h, block, p.dqkv + h.value);
  }
}

}  // namespace detail::cpu

inline void launch(const Cpu&, const AttentionForward<float>& p) {
  using namespace detail::cpu;
  if (p.shape.tokens == 0) return;
  const QueryBlocks blocks(p.shape.tokens);
  parallel_for(std::int64_t{p.shape.n} * p.shape.heads * blocks.blocks, [&](std::int64_t i) {
    attention_forward_block(p, AttentionHead(p.shape, i / blocks.blocks),
                            blocks[static_cast<int>(i % blocks.blocks)]);
  });
}

inline void launch(const Cpu&, const AttentionBackward<float>& p) {
  using namespace detail::cpu;
  parallel_for(std::int64_t{p.shape.n} * p.shape.heads,
               [&](std::int64_t i) { attention_backward_head(p, AttentionHead(p.shape, i)); });
}

}  // namespace ddpm
