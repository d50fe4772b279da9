// SPDX-License-Identifier: MIT
// A tile of a matrix product on tensor cores: slices of both operands are copied to shared memory several ahead of
// their use and multiplied by mma.sync with sums in float. They are of bf16, or of float, which is rounded to TF32
// on its way to registers. What the operands are is the business of their sources, as in tile.cuh.
#pragma once

#include <cstdint>
#include <type_traits>

#include <ddpm/core/dtype.hpp>
#include <ddpm/kernels/arch/cp_async_sm80.cuh>
#include <ddpm/kernels/arch/mma_sm80.cuh>
#include <ddpm/kernels/block/mma_choice.hpp>
#include <ddpm/kernels/block/reduce.cuh>
#include <ddpm/kernels/block/tile.cuh>

namespace ddpm::kernels {

// A block of warps, two side by side, computes rows x columns of the product.
template <MmaTile Tile, class T>
struct MmaTilePolicy {
  using Element = T;
  static constexpr int rows = size_of(Tile).rows, columns = size_of(Tile).columns;
  static constexpr int warp_rows = rows / (warps_of(Tile) / 2), warp_columns = columns / 2;
  static constexpr int threads = warps_of(Tile) * warp_size;
  static constexpr int depth = slice_bytes(Tile) / static_cast<int>(sizeof(T));  // of a slice
  static constexpr int stages = 4;                                               // slices in shared memory
  static constexpr int shared_limit = shared_limit_of(Tile);
};

// Calls run(policy) with the tile's.
template <class T, class Run>
void with_mma_tile(MmaTile tile, Run run) {
  if (tile == MmaTile::tall) run(MmaTilePolicy<MmaTile::tall, T>{});
  if (tile == MmaTile::large) run(MmaTilePolicy<MmaTile::large, T>{});
  if (tile == MmaTile::flat) run(MmaTilePolicy<MmaTile::flat, T>{});
  if (tile == MmaTile::small) run(MmaTilePolicy<MmaTile::small, T>{});
}

// The elements that one cp.async copies, and one address of ldmatrix gives.
template <class T>
inline constexpr int chunk_of = pack_width<T>;
inline constexpr int chunk = chunk_of<bf16>;

// A slice of Size rows or columns: lines of elements that are neighbours in global memory too.
template <int Size, int Depth, Neighbours N, class T = bf16>
struct MmaSlice {
  using Element = T;
  static constexpr int chunk = chunk_of<T>;
  static constexpr int lines = N == Neighbours::depth ? Size : Depth;
  static constexpr int chunks = Size * Depth / lines / chunk;  // of a line
  static_assert((chunks & (chunks - 1)) == 0);

  // ldmatrix transposes elements of 16 bits. Others that lie across the product are read as words, eight of each of
  // four lines at once, which meet in no bank where lines are eight banks apart.
  static constexpr bool is_read_as_words = N == Neighbours::across && sizeof(T) == 4;
  static constexpr int gap = is_read_as_words ? 8 / chunk : 0;

  Pack<T, chunk> element[lines][chunks + gap];

  __device__ __forceinline__ std::uint32_t word(int line, int i) const {
    return Pack<std::uint32_t, 1>::load(reinterpret_cast<const std::uint32_t*>(element[line]) + i)[0];
  }
  // Eight chunks pass the banks at once: neighbours in a line when they are copied, one of each of eight lines
  // when they are read. Permuted within their lines, neither meet in a bank.
  __device__ __forceinline__ void* at(int line, int i) {
    if constexpr (is_read_as_words) return &element[line][i];
    constexpr unsigned lines_at_once = chunks < 8 ? 8 / chunks : 1;
    return &element[line][i ^ static_cast<unsigned>(line) / lines_at_once % (8 / lines_at_once)];
  }
};

// How the threads of a block copy a slice. Sources are those of Staging in tile.cuh.
template <class P, int Size, Neighbours N>
struct MmaStaging {
  using T = typename P::Element;
  using Slice = MmaSlice<Size, P::depth, N, T>;
  static constexpr Neighbours neighbours = N;
  static constexpr int lines_at_once = P::threads / Slice::chunks;
  static constexpr int passes = Slice::lines / lines_at_once;
  static constexpr int across_span = lines_at_once;  // of a pass; there is one where neighbours lie across
  static_assert(passes * lines_at_once == Slice::lines);

  __device__ __forceinline__ static int line() { return static_cast<int>(threadIdx.x) / Slice::chunks; }
  __device__ __forceinline__ static int place() { return static_cast<int>(threadIdx.x) % Slice::chunks; }
  __device__ __forceinline__ static int depth() {
    return N == Neighbours::depth ? place() * Slice::chunk : line();
  }
  __device__ __forceinline__ static int across() {
    return N == Neighbours::depth ? line() : place() * Slice::chunk;
  }

  template <class Source>
  __device__ __forceinline__ static void copy(Source& source, Slice& to) {
#pragma unroll
    for (int pass = 0; pass < passes; ++pass) {
      const T* const from = source.at(N == Neighbours::depth ? pass : 0);
      arch::cp_async<widest_access>(to.at(line() + pass * lines_at_once, place()), from,
                                    from ? widest_access : 0);
      if (N == Neighbours::across) source.move(lines_at_once);
    }
    if (N == Neighbours::depth) source.move(P::depth);
  }
};

enum class MmaOperand { a, b };

// 16 elements across and two chunks of depth for mma.sync, as they are stored: all of its A operand, or two of B one
// after the other.
template <MmaOperand O, Neighbours N, class Slice>
__device__ __forceinline__ void load_words(std::uint32_t (&to)[4], Slice& slice, int across, int depth) {
  constexpr int chunk = Slice::chunk;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  if constexpr (Slice::is_read_as_words) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int across_half = O == MmaOperand::a ? i % 2 : i / 2;
      const int depth_half = O == MmaOperand::a ? i / 2 : i % 2;
      to[i] = slice.word(depth + depth_half * chunk + lane % 4, across + across_half * 8 + lane / 4);
    }
  } else {
    const int across_half = O == MmaOperand::a ? lane / 8 % 2 : lane / 16;
    const int depth_half = O == MmaOperand::a ? lane / 16 : lane / 8 % 2;
    static_assert(N == Neighbours::depth || sizeof(typename Slice::Element) == 2);
    if constexpr (N == Neighbours::depth)
      arch::ldmatrix(to, slice.at(across + across_half * 8 + lane % 8, depth / chunk + depth_half));
    else
      arch::ldmatrix_transposed(to,
                                slice.at(depth + depth_half * 8 + lane % 8, across / chunk + across_half));
  }
}

// The same, as mma.sync takes them.
template <MmaOperand O, Neighbours N, class Slice>
__device__ __forceinline__ void load_fragment(std::uint32_t (&to)[4], Slice& slice, int across, int depth) {
  load_words<O, N>(to, slice, across, depth);
  if constexpr (std::is_same_v<typename Slice::Element, float>)
#pragma unroll
    for (std::uint32_t& word : to) word = arch::to_tf32(__uint_as_float(word));
}

// sums += the product of fragments of T.
template <class T>
__device__ __forceinline__ void multiply_fragments(float (&sums)[4], const std::uint32_t (&a)[4],
                                                   const std::uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, bf16>)
    arch::mma_m16n8k16_bf16(sums, a, b);
  else
    arch::mma_m16n8k8_tf32(sums, a, b);
}

// Of a warp, in the layout of mma.sync.
template <class P>
using MmaSums = float[P::warp_rows / 16][P::warp_columns / 8][4];

template <class P>
__device__ __forceinline__ int first_row_of_warp() {
  return static_cast<int>(threadIdx.x) / warp_size / 2 * P::warp_rows;
}
template <class P>
__device__ __forceinline__ int first_column_of_warp() {
  return static_cast<int>(threadIdx.x) / warp_size % 2 * P::warp_columns;
}

// What a thread has of a row: two neighbours in every eight columns.
template <class P>
using MmaRow = Pack<float, 2>[P::warp_columns / 8];

// Calls use(row, column, values) for each row that the thread has a part of, from that column.
template <class P, class Use>
__device__ __forceinline__ void for_each_row(const MmaSums<P>& sums, Use use) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
#pragma unroll
  for (int i = 0; i < P::warp_rows / 8; ++i) {
    MmaRow<P> row;
#pragma unroll
    for (int j = 0; j < P::warp_columns / 8; ++j)
      row[j] = {{sums[i / 2][j][i % 2 * 2], sums[i / 2][j][i % 2 * 2 + 1]}};
    use(first_row_of_warp<P>() + lane / 4 + 8 * i, first_column_of_warp<P>() + lane % 4 * 2, row);
  }
}

// Slices in shared memory.
template <class P, class StagingA, class StagingB>
struct MmaStages {
  typename StagingA::Slice a[P::stages];
  typename StagingB::Slice b[P::stages];
};

// sums += a slice's product.
template <class P, class StagingA, class StagingB>
__device__ __forceinline__ void multiply_mma_slices(typename StagingA::Slice& a, typename StagingB::Slice& b,
                                                    MmaSums<P>& sums) {
  using T = typename P::Element;
#pragma unroll
  for (int depth = 0; depth < P::depth; depth += 2 * chunk_of<T>) {
    std::uint32_t left[P::warp_rows / 16][4], right[P::warp_columns / 16][4];
#pragma unroll
    for (int i = 0; i < P::warp_rows / 16; ++i)
      load_fragment<MmaOperand::a, StagingA::neighbours>(left[i], a, first_row_of_warp<P>() + 16 * i, depth);
#pragma unroll
    for (int j = 0; j < P::warp_columns / 16; ++j)
      load_fragment<MmaOperand::b, StagingB::neighbours>(right[j], b, first_column_of_warp<P>() + 16 * j,
                                                         depth);
#pragma unroll
    for (int i = 0; i < P::warp_rows / 16; ++i)
#pragma unroll
      for (int j = 0; j < P::warp_columns / 8; ++j)
        multiply_fragments<T>(sums[i][j], left[i], {right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]});
  }
}

// Sums of the rows of a over its depth: of bf16 the product with ones, of float exact sums. The two warps that have the
// same rows share them, each has every other 16.
template <class P>
class MmaRowSums {
  static constexpr bool is_product = std::is_same_v<typename P::Element, bf16>;

 public:
  template <class StagingA>
  __device__ __forceinline__ void add(typename StagingA::Slice& a) {
    const std::uint32_t ones = arch::to_bf16_pair(1, 1);
#pragma unroll
    for (int depth = 0; depth < P::depth; depth += 2 * chunk_of<typename P::Element>)
#pragma unroll
      for (int i = 0; i < pieces; ++i) {
        std::uint32_t rows[4];
        load_words<MmaOperand::a, StagingA::neighbours>(rows, a, first_row(i), depth);
        if constexpr (is_product) {
          arch::mma_m16n8k16_bf16(sums_[i], rows, {ones, ones});
        } else {
          sums_[i][0] += __uint_as_float(rows[0]) + __uint_as_float(rows[2]);
          sums_[i][2] += __uint_as_float(rows[1]) + __uint_as_float(rows[3]);
        }
      }
  }

  // Calls use(row, sum) for those of the thread.
  template <class Use>
  __device__ __forceinline__ void for_each(Use use) const {
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
#pragma unroll
    for (int i = 0; i < pieces; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float part = sums_[i][2 * half];
        const float sum = is_product ? part : warp_sum<4>(part);  // all columns of the product are the same
        if (lane % 4 == 0) use(first_row(i) + lane / 4 + 8 * half, sum);
      }
  }

 private:
  static constexpr int pieces = P::warp_rows / 32;

  __device__ __forceinline__ static int first_row(int i) {
    return first_row_of_warp<P>() + 32 * i + static_cast<int>(threadIdx.x) / warp_size % 2 * 16;
  }

  float sums_[pieces][4] = {};
};

// Calls use(a, b) for each slice of a and b over a depth, perhaps none, that is the same for all threads of the
// block. After it, other warps may still read the stages, but nothing is on its way to them.
template <class P, class StagingA, class StagingB, class A, class B, class Use>
__device__ __forceinline__ void for_each_mma_slice(MmaStages<P, StagingA, StagingB>& stages, A a, B b,
                                                   std::int64_t depth, Use use) {
  const auto slices = static_cast<unsigned>((max(depth, std::int64_t{0}) + P::depth - 1) / P::depth);
  const auto fetch = [&](unsigned slice) {
    if (slice < slices) {
      StagingA::copy(a, stages.a[slice % P::stages]);
      StagingB::copy(b, stages.b[slice % P::stages]);
    }
    arch::cp_async_commit();  // without copies too, so that the groups in flight are as many as stages
  };
  __syncthreads();  // an earlier product may be reading
#pragma unroll
  for (unsigned slice = 0; slice < P::stages - 1; ++slice) fetch(slice);
  for (unsigned slice = 0; slice < slices; ++slice) {
    arch::cp_async_wait<P::stages - 2>();
    __syncthreads();  // all have copied this slice, and read the one whose place the next takes
    fetch(slice + P::stages - 1);
    use(stages.a[slice % P::stages], stages.b[slice % P::stages]);
  }
}

}  // namespace ddpm::kernels
