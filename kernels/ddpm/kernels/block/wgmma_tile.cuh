// SPDX-License-Identifier: MIT
// A tile of a matrix product by wgmma: one warpgroup copies slices of both operands, of bf16, by TMA into a ring of
// stages, two multiply them with sums in float. What the operands are is the business of who copies them.
#pragma once

#include <cstdint>

#include <ddpm/kernels/arch/mbarrier_sm90.cuh>
#include <ddpm/kernels/arch/tma_sm90.cuh>
#include <ddpm/kernels/arch/wgmma_sm90.cuh>
#include <ddpm/kernels/block/wgmma_choice.hpp>
#include <ddpm/kernels/pack.cuh>

namespace ddpm::kernels {

// Two warpgroups compute rows x columns of the product, each half of the rows.
template <WgmmaTile Tile>
struct WgmmaTilePolicy {
  static constexpr int rows = size_of(Tile).rows, columns = size_of(Tile).columns;
  static constexpr int group_rows = rows / 2;
  static constexpr int threads = 2 * arch::warpgroup_size;
  static constexpr int block_threads = threads + arch::warpgroup_size;  // with the one that copies
  static constexpr int depth = size_of(Tile).depth;                     // of a slice
  static constexpr unsigned stages = 4;                                 // slices in shared memory
};

// Calls run(policy) with the tile's.
template <class Run>
void with_wgmma_tile(WgmmaTile tile, Run run) {
  if (tile == WgmmaTile::square) run(WgmmaTilePolicy<WgmmaTile::square>{});
  if (tile == WgmmaTile::tall) run(WgmmaTilePolicy<WgmmaTile::tall>{});
  if (tile == WgmmaTile::wide) run(WgmmaTilePolicy<WgmmaTile::wide>{});
}

// A box of TMA has lines of as many elements as a slice is deep; after eight its swizzle repeats.
inline constexpr int element_bytes = static_cast<int>(sizeof(bf16)),
                     line_bytes = static_cast<int>(swizzle_width);
inline constexpr int line_elements = line_bytes / element_bytes, atom_bytes = 8 * line_bytes;

// A slice of an operand is one box of lines along the depth, or boxes of as many lines across it as a slice is deep,
// one after the other.
template <class P>
struct WgmmaStages {
  static_assert(P::depth == line_elements);
  static constexpr int box_bytes = P::depth * line_bytes;  // of lines across the depth
  alignas(atom_bytes) unsigned char a[P::stages][P::rows * line_bytes];
  alignas(atom_bytes) unsigned char b[P::stages][P::columns * line_bytes];
};

// Phases end when a slice has come to the stage, and when both warpgroups have read it.
template <class P>
struct WgmmaRing {
  std::uint64_t filled[P::stages], emptied[P::stages];

  // By all threads of the block; a barrier follows.
  __device__ __forceinline__ void init() {
    if (threadIdx.x >= P::stages) return;
    arch::mbarrier_init(&filled[threadIdx.x], 1);
    arch::mbarrier_init(&emptied[threadIdx.x], P::threads / arch::warpgroup_size);
  }
};

// Of a thread, in the layout of wgmma: each 64 of its warpgroup's rows.
template <class P>
using WgmmaSums = float[P::group_rows / 64][P::columns / 2];

// By one thread: calls copy(stage) for each slice in turn, which has all bytes of a and b copied and reported to the
// ring.
template <class P, class Copy>
__device__ __forceinline__ void copy_wgmma_slices(unsigned slices, WgmmaRing<P>& ring, Copy copy) {
  for (unsigned slice = 0; slice < slices; ++slice) {
    const unsigned stage = slice % P::stages, turn = slice / P::stages % 2;
    arch::mbarrier_wait_parity(&ring.emptied[stage], turn ^ 1u);  // at once in the first turn
    arch::mbarrier_arrive_expect_tx(&ring.filled[stage], (P::rows + P::columns) * line_bytes);
    copy(stage);
  }
}

// Starts sums += the product of a slice.
template <class P, arch::Major A, arch::Major B>
__device__ __forceinline__ void multiply_wgmma_slice(const WgmmaStages<P>& stages, unsigned stage,
                                                     WgmmaSums<P>& sums) {
  constexpr auto step = [](arch::Major order) {
    return order == arch::Major::k ? element_bytes : line_bytes;
  };
  constexpr arch::TileStrides strides{WgmmaStages<P>::box_bytes, atom_bytes};
  const int first_row = static_cast<int>(threadIdx.x) / arch::warpgroup_size * P::group_rows;
  arch::wgmma_fence();
#pragma unroll
  for (int depth = 0; depth < P::depth; depth += 16) {
    const auto b = arch::wgmma_descriptor(stages.b[stage] + depth * step(B), strides);
#pragma unroll
    for (int i = 0; i < P::group_rows / 64; ++i) {
      // 64 rows are 64 lines along the depth, or a box of lines across it, which are as many bytes.
      const auto a = arch::wgmma_descriptor(
          stages.a[stage] + (first_row + 64 * i) * line_bytes + depth * step(A), strides);
      arch::wgmma_m64k16_bf16<P::columns, A, B>(sums[i], a, b, arch::Sum::add);
    }
  }
  arch::wgmma_commit();
}

// By the two warpgroups: sums += the product of the slices as they come, at least one. After it, neither reads the
// stages.
template <class P, arch::Major A, arch::Major B>
__device__ __forceinline__ void multiply_wgmma_slices(unsigned slices, const WgmmaStages<P>& stages,
                                                      WgmmaRing<P>& ring, WgmmaSums<P>& sums) {
  const auto empty = [&](unsigned slice) {
    if (threadIdx.x % arch::warpgroup_size == 0) arch::mbarrier_arrive(&ring.emptied[slice % P::stages]);
  };
  unsigned slice = 0;
  // Neither unrolled nor left before its start, either of which moves the sums of products in flight.
#pragma unroll 1
  do {
    arch::mbarrier_wait_parity(&ring.filled[slice % P::stages], slice / P::stages % 2);
    multiply_wgmma_slice<P, A, B>(stages, slice % P::stages, sums);
    arch::wgmma_wait<1>();  // the slice before has been read
    if (slice > 0) empty(slice - 1);
  } while (++slice < slices);
  arch::wgmma_wait<0>();
  empty(slices - 1);
  arch::mbarrier_wait_parity(&ring.emptied[(slices - 1) % P::stages], (slices - 1) / P::stages % 2);
}

// Calls use(row, column, left, right) for each two neighbours that the thread has of 64 rows, the first if it is so.
template <class P, class Sums, class Use>
__device__ __forceinline__ void for_each_pair(Sums& sums, Use use) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % warp_size;
  const int first_row = thread / arch::warpgroup_size * P::group_rows +
                        thread % arch::warpgroup_size / warp_size * 16 + lane / 4;
#pragma unroll
  for (int j = 0; j < P::columns / 4; ++j)  // of the upper and the lower half of 16 rows, in turn
    use(first_row + j % 2 * 8, j / 2 * 8 + lane % 4 * 2, sums[2 * j], sums[2 * j + 1]);
}

// Whether the thread multiplies; the others copy. The same for all lanes, as the compiler sees.
template <class P>
__device__ __forceinline__ bool multiplies_slices() {
  return __shfl_sync(full_warp, static_cast<int>(threadIdx.x), 0) < P::threads;
}

}  // namespace ddpm::kernels
