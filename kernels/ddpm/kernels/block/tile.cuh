// SPDX-License-Identifier: MIT
// A tile of a matrix product: both operands are staged slice by slice in shared memory and multiplied in
// registers, in float. What the operands are is the business of their sources.
#pragma once

#include <algorithm>

#include <ddpm/kernels/block/quad.cuh>

namespace ddpm::kernels {

// Added to a coordinate of an image, it leads out of every image; so it does twice.
inline constexpr int nowhere = -(1 << 30);

// A block computes rows x columns of the product, a thread thread_rows x thread_columns of those.
template <int Rows, int Columns, int ThreadRows, int ThreadColumns>
struct TilePolicy {
  static constexpr int rows = Rows, columns = Columns;
  static constexpr int thread_rows = ThreadRows, thread_columns = ThreadColumns;
  static constexpr int row_threads = rows / thread_rows, column_threads = columns / thread_columns;
  static constexpr int threads = row_threads * column_threads;
  static constexpr int depth = 16;  // of a slice
};

using WideTile = TilePolicy<64, 64, 8, 8>;
using NarrowTile = TilePolicy<64, 32, 8, 4>;  // for up to 32 columns

// Calls run(tile) with the tile for a product of so many columns.
template <class Run>
void with_tile(int columns, Run run) {
  columns <= NarrowTile::columns ? run(NarrowTile{}) : run(WideTile{});
}

// Shifts each line of a slice by four banks: a warp stores eight neighbours along the depth without
// conflicts.
inline constexpr int bank_shift = 4;

// Slices in shared memory, two of each so that one is filled while the other is read.
template <class P>
struct TileShared {
  alignas(widest_access) float a[2][P::depth][P::rows + bank_shift];
  alignas(widest_access) float b[2][P::depth][P::columns + bank_shift];
};

// The axis of an operand along which its elements are neighbours in memory.
enum class Neighbours { depth, across };

// One thread's part of a slice of `Size` rows or columns on its way from global to shared memory, Width
// elements at a time. A source has
//   const T* at(int pass) const: where the Width elements of the thread's place are, which lies `across` plus
//     `pass` times across_span in the tile and, in the product, as deep as the source has moved; or null for
//     zeros;
//   void move(int by): deeper.
template <class P, int Size, Neighbours N, int Width, class T>
class Staging {
  // Of one pass of the block. Eight neighbours along the depth are a whole sector of float.
  static constexpr int depth_span = N == Neighbours::depth ? 8 : P::threads * Width / Size;

 public:
  static constexpr int across_span = P::threads * Width / depth_span;

  __device__ __forceinline__ static int depth() {
    const int thread = static_cast<int>(threadIdx.x);
    return N == Neighbours::depth ? thread % (depth_span / Width) * Width : thread / (Size / Width);
  }
  __device__ __forceinline__ static int across() {
    const int thread = static_cast<int>(threadIdx.x);
    return N == Neighbours::depth ? thread / (depth_span / Width) : thread % (Size / Width) * Width;
  }

  template <class Source>
  __device__ __forceinline__ void fetch(Source& source) {
#pragma unroll
    for (int d = 0; d < depth_passes; ++d) {
#pragma unroll
      for (int pass = 0; pass < across_passes; ++pass) {
        const T* const from = source.at(pass);
        loaded_[d][pass] = from ? Pack<T, Width>::load(from) : Pack<T, Width>{};
      }
      source.move(depth_span);
    }
  }

  __device__ __forceinline__ void store(float (&to)[P::depth][Size + bank_shift]) const {
#pragma unroll
    for (int d = 0; d < depth_passes; ++d)
#pragma unroll
      for (int pass = 0; pass < across_passes; ++pass) {
        const int k = depth() + d * depth_span, i = across() + pass * across_span;
        Pack<float, Width> pack;
#pragma unroll
        for (int j = 0; j < Width; ++j) pack[j] = static_cast<float>(loaded_[d][pass][j]);
        if constexpr (N == Neighbours::across) {
          pack.store(&to[k][i]);
        } else {
#pragma unroll
          for (int j = 0; j < Width; ++j) to[k + j][i] = pack[j];
        }
      }
  }

 private:
  static constexpr int depth_passes = P::depth / depth_span, across_passes = Size / across_span;
  static_assert(depth_passes * depth_span == P::depth && across_passes * across_span == Size);

  // Converted by store() only, so that nothing waits for them before.
  Pack<T, Width> loaded_[depth_passes][across_passes];
};

// A thread has every row_threads-th quad of rows and every column_threads-th quad of columns of the tile.
template <class P>
__device__ __forceinline__ int first_row_of_quad(int i) {
  return (i * P::row_threads + static_cast<int>(threadIdx.x) / P::column_threads) * quad;
}

template <class P>
__device__ __forceinline__ int first_column_of_quad(int j) {
  return (j * P::column_threads + static_cast<int>(threadIdx.x) % P::column_threads) * quad;
}

template <class P>
using TileSums = float[P::thread_rows][P::thread_columns];

// sums += a slice's product.
template <class P>
__device__ __forceinline__ void multiply_slices(const float (&a)[P::depth][P::rows + bank_shift],
                                                const float (&b)[P::depth][P::columns + bank_shift],
                                                TileSums<P>& sums) {
#pragma unroll 4  // unrolled further, it spills
  for (int k = 0; k < P::depth; ++k) {
    Pack<float, quad> left[P::thread_rows / quad], right[P::thread_columns / quad];
#pragma unroll
    for (int i = 0; i < P::thread_rows / quad; ++i)
      left[i] = Pack<float, quad>::load(&a[k][first_row_of_quad<P>(i)]);
#pragma unroll
    for (int j = 0; j < P::thread_columns / quad; ++j)
      right[j] = Pack<float, quad>::load(&b[k][first_column_of_quad<P>(j)]);
#pragma unroll
    for (int i = 0; i < P::thread_rows; ++i)
#pragma unroll
      for (int j = 0; j < P::thread_columns; ++j)
        sums[i][j] += left[i / quad][i % quad] * right[j / quad][j % quad];
  }
}

// Calls use(a, b) for each slice of a and b over a depth that is the same for all threads of the block. StagingA
// and StagingB say how the sources' elements are brought.
template <class P, class StagingA, class StagingB, class A, class B, class Use>
__device__ __forceinline__ void for_each_slice(TileShared<P>& shared, A a, B b, std::int64_t depth, Use use) {
  const int slices = static_cast<int>((depth + P::depth - 1) / P::depth);
  if (slices <= 0) return;
  StagingA next_a;
  StagingB next_b;
  next_a.fetch(a);
  next_b.fetch(b);
  __syncthreads();  // an earlier product may be reading
  next_a.store(shared.a[0]);
  next_b.store(shared.b[0]);
  for (int slice = 0; slice < slices; ++slice) {
    const int current = slice % 2;
    const bool has_next = slice + 1 < slices;
    __syncthreads();
    if (has_next) {
      next_a.fetch(a);
      next_b.fetch(b);
    }
    use(shared.a[current], shared.b[current]);
    if (has_next) {
      next_a.store(shared.a[1 - current]);
      next_b.store(shared.b[1 - current]);
    }
  }
}

}  // namespace ddpm::kernels
