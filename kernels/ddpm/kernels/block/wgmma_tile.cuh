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
  static constexpr WgmmaTile tile = Tile;
  static constexpr int rows = size_of(Tile).rows, columns = size_of(Tile).columns;
  static constexpr int group_rows = rows / 2;
  static constexpr int threads = 2 * arch::warpgroup_size;
  static constexpr int block_threads = threads + arch::warpgroup_size;  // with the one that copies
  static constexpr int depth = size_of(Tile).depth;                     // of a slice
  static constexpr unsigned stages = Tile == WgmmaTile::taps ? 3 : 4;   // slices in shared memory
  static constexpr int taps = Tile == WgmmaTile::taps ? 3 : 1;          // whose columns are of one strip
};

// Calls run(policy) with the tile's, which is one of some.
template <WgmmaTile... Tiles, class Run>
void with_wgmma_tile_of(WgmmaTile tile, Run run) {
  ((tile == Tiles ? run(WgmmaTilePolicy<Tiles>{}) : void()), ...);
}
template <class Run>
void with_wgmma_tile(WgmmaTile tile, Run run) {
  with_wgmma_tile_of<WgmmaTile::square, WgmmaTile::tall, WgmmaTile::wide, WgmmaTile::narrow>(tile, run);
}
// Of those for a weight's gradient.
template <class Run>
void with_wgmma_weight_tile(WgmmaTile tile, Run run) {
  with_wgmma_tile_of<WgmmaTile::square, WgmmaTile::tall, WgmmaTile::wide, WgmmaTile::taps>(tile, run);
}

// A box of TMA has lines of as many elements as a slice is deep; after eight its swizzle repeats. One of lines across
// the depth has as many.
inline constexpr int element_bytes = static_cast<int>(sizeof(bf16)),
                     line_bytes = static_cast<int>(swizzle_width);
inline constexpr int line_elements = line_bytes / element_bytes, atom_bytes = 8 * line_bytes,
                     box_bytes = line_elements * line_bytes;

// A slice of an operand is lines along the depth, or boxes of as many lines across it as a slice is deep, one after the
// other. Several slices may be parts of one stage of a, and the boxes of b of one strip, see SliceLayout.
template <class P, int LinesOfA, int LinesOfB, unsigned StagesOfA>
struct WgmmaStages {
  alignas(atom_bytes) unsigned char a[StagesOfA][LinesOfA * line_bytes];
  alignas(atom_bytes) unsigned char b[P::stages][LinesOfB * line_bytes];
};

// The stages of an operand, filled and emptied in turn. Phases end when the bytes of a stage have come, and when all
// have read them.
template <unsigned Stages>
struct WgmmaRing {
  std::uint64_t filled[Stages], emptied[Stages];

  // By all threads of the block; a barrier follows.
  __device__ __forceinline__ void init(unsigned readers) {
    if (threadIdx.x >= Stages) return;
    arch::mbarrier_init(&filled[threadIdx.x], 1);
    arch::mbarrier_init(&emptied[threadIdx.x], readers);
  }
  // By the thread that copies: the stage of the i-th filling, which is empty, and will have come with so many bytes.
  __device__ __forceinline__ unsigned open(unsigned i, unsigned bytes) {
    arch::mbarrier_wait_parity(&emptied[i % Stages], i / Stages % 2 ^ 1u);  // at once in the first turn
    arch::mbarrier_arrive_expect_tx(&filled[i % Stages], bytes);
    return i % Stages;
  }
  // By those who read: its stage, which is filled.
  __device__ __forceinline__ unsigned wait(unsigned i) {
    arch::mbarrier_wait_parity(&filled[i % Stages], i / Stages % 2);
    return i % Stages;
  }
  __device__ __forceinline__ void release(unsigned i) { arch::mbarrier_arrive(&emptied[i % Stages]); }
};

// Of a thread: how many fillings of either ring are behind it.
struct RingPlace {
  unsigned a = 0, b = 0;
};

// Of both operands.
template <class P, unsigned StagesOfA>
struct WgmmaRings {
  WgmmaRing<StagesOfA> a;
  WgmmaRing<P::stages> b;

  // Others than the two warpgroups may read a.
  __device__ __forceinline__ void init(unsigned others = 0) {
    a.init(P::threads / arch::warpgroup_size + others);
    b.init(P::threads / arch::warpgroup_size);
  }
};

// How slices lie in a stage, in lines. Of a, along the depth: the first slice is its first lines, with `gap` after each
// `piece` of them, and each other slice starts `step` lines after the one before; where `doubled` is 1, every other one,
// the first of them if `lead` is 1, the other way around in odd strips if `alternates` is 1. Of b, across the depth: 64
// columns start `column_step` lines after the 64 before, and after 64 lines of the depth come `depth_gap` others. All are
// multiples of what wgmma reads as a whole: 64 lines of a piece, 8 of others.
struct SliceLayout {
  int slices = 1, step = 0, piece = 1 << 30, gap = 0;
  int doubled = 0, lead = 0, alternates = 0;
  int column_step = line_elements, depth_gap = 0;

  __device__ __forceinline__ int first_line(unsigned strip, int slice) const {
    return ((slice + (lead ^ (static_cast<int>(strip) & alternates))) >> doubled) * step;
  }
};

// Of a thread, in the layout of wgmma: each 64 of its warpgroup's rows.
template <class P>
using WgmmaSums = float[P::group_rows / 64][P::columns / 2];

// The first row of the tile that the warpgroup computes.
template <class P>
__device__ __forceinline__ int first_row_of_group() {
  return static_cast<int>(threadIdx.x) / arch::warpgroup_size * P::group_rows;
}

// Starts sums += the product of a slice.
template <class P, arch::Major A, arch::Major B>
__device__ __forceinline__ void multiply_wgmma_slice(const unsigned char* a, const unsigned char* b,
                                                     const SliceLayout& layout, WgmmaSums<P>& sums) {
  static_assert(P::depth == line_elements || (A == arch::Major::mn && B == arch::Major::mn));
  const arch::TileStrides strides{static_cast<unsigned>(layout.column_step * line_bytes), atom_bytes};
  const int first_row = first_row_of_group<P>();
  arch::wgmma_fence();
#pragma unroll
  for (int depth = 0; depth < P::depth; depth += 16) {
    const int line_of_b = depth + depth / line_elements * layout.depth_gap;
    const auto columns = arch::wgmma_descriptor(
        b + (B == arch::Major::k ? depth * element_bytes : line_of_b * line_bytes), strides);
#pragma unroll
    for (int i = 0; i < P::group_rows / 64; ++i) {
      // 64 rows are 64 lines along the depth, or a box of lines across it.
      const int row = first_row + 64 * i;
      const auto rows = arch::wgmma_descriptor(
          a + (A == arch::Major::k
                   ? (row + row / layout.piece * layout.gap) * line_bytes + depth * element_bytes
                   : (row / 64 * P::depth + depth) * line_bytes),
          strides);
      arch::wgmma_m64k16_bf16<P::columns, A, B>(sums[i], rows, columns, arch::Sum::add);
    }
  }
  arch::wgmma_commit();
}

// By the two warpgroups: sums += the product of the next slices as they come, at least one.
template <class P, arch::Major A, arch::Major B, class Shared>
__device__ __forceinline__ void multiply_wgmma_slices(unsigned slices, const SliceLayout& layout,
                                                      Shared& shared, RingPlace& place, WgmmaSums<P>& sums) {
  const bool releases = threadIdx.x % arch::warpgroup_size == 0;
  auto& rings = shared.rings;
  unsigned slice = place.b, strip = place.a;
  int of_strip = 0;
  // Neither unrolled nor left before its start, either of which moves the sums of products in flight.
#pragma unroll 1
  do {
    const unsigned char* const a =
        shared.stages.a[rings.a.wait(strip)] + layout.first_line(strip, of_strip) * line_bytes;
    multiply_wgmma_slice<P, A, B>(a, shared.stages.b[rings.b.wait(slice)], layout, sums);
    arch::wgmma_wait<1>();  // the slice before has been read
    if (releases && slice > place.b) {
      rings.b.release(slice - 1);
      if (of_strip == 0) rings.a.release(strip - 1);
    }
    if (++of_strip == layout.slices) {
      of_strip = 0;
      ++strip;
    }
  } while (++slice < place.b + slices);
  arch::wgmma_wait<0>();
#pragma unroll
  for (auto& sums_of_64 : sums) arch::wgmma_finish(sums_of_64);
  if (releases) {
    rings.b.release(slice - 1);
    rings.a.release(strip - 1);
  }
  place = {strip, slice};
}

// Calls use(row, column, left, right) for each two neighbours that the thread has of 64 rows and of the 64 columns from
// one on.
template <class Sums, class Use>
__device__ __forceinline__ void for_each_pair(Sums& sums, int first_column, Use use) {
  const int thread = static_cast<int>(threadIdx.x) % arch::warpgroup_size, lane = thread % warp_size;
  const int first_row = thread / warp_size * 16 + lane / 4;
#pragma unroll
  for (int j = 0; j < 16; ++j) {  // of the upper and the lower half of 16 rows, in turn
    const int first = first_column / 2 + 2 * j;
    use(first_row + j % 2 * 8, j / 2 * 8 + lane % 4 * 2, sums[first], sums[first + 1]);
  }
}

// Whether the thread multiplies; the others copy. The same for all lanes, as the compiler sees.
template <class P>
__device__ __forceinline__ bool multiplies_slices() {
  return __shfl_sync(full_warp, static_cast<int>(threadIdx.x), 0) < P::threads;
}

}  // namespace ddpm::kernels
