// SPDX-License-Identifier: MIT
// Convolution of bf16, forward and backward to the data, on the tensor cores of compute capability 9.0a.
// Math and parameters: ddpm/ops/conv2d.hpp.
// Algorithm: the implicit GEMM of conv2d.cuh by wgmma, where neither pass skips pixels. The pixels of a tile are a
// box of the images, which TMA copies moved by a tap, with zeros for the padding; the weights of the tap are another,
// which the backward pass reads transposed. One warpgroup copies slices into a ring, two multiply them. Results
// leave as in conv2d_mma.cuh.
// Cost: the multiplications of the definition, of pixels and channels rounded up to a tile; reads each input once per
// tap and tile of columns, mostly from L2.  Bound: wgmma, or L2.
#pragma once

#include <ddpm/kernels/arch/mbarrier_sm90.cuh>
#include <ddpm/kernels/arch/tma_sm90.cuh>
#include <ddpm/kernels/arch/wgmma_sm90.cuh>
#include <ddpm/kernels/block/wgmma_choice.hpp>
#include <ddpm/kernels/conv2d_mma.cuh>

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

template <template <class> class Op>
struct WgmmaConvolution {
  Conv2dGather<Op, bf16> gather;
  TensorMap x, x2, weight;
};

// A tile of TMA has rows of as many elements as a slice is deep; after eight its swizzle repeats.
inline constexpr int element_bytes = static_cast<int>(sizeof(bf16)),
                     row_bytes = static_cast<int>(swizzle_width);
inline constexpr int row_elements = row_bytes / element_bytes, atom_bytes = 8 * row_bytes;

template <class P>
struct WgmmaShared {
  struct Stages {
    alignas(atom_bytes) unsigned char pixels[P::stages][P::rows * row_bytes];
    alignas(atom_bytes) unsigned char weights[P::stages][P::columns * row_bytes];
  };
  union {
    Stages stages;
    MmaOutput<P> output;
  };
  GatheredRows<P::rows> rows;
  // Phases end when a slice has come to the stage, and when both warpgroups have read it.
  std::uint64_t filled[P::stages], emptied[P::stages];
};

// Of a thread, in the layout of wgmma.
template <class P>
using WgmmaSums = float[P::group_rows / 64][P::columns / 2];

// By one thread: the slices of the tile, one after the other.
template <class P, template <class> class Op>
__device__ __forceinline__ void copy_slices(const WgmmaConvolution<Op>& p, const GatherTile<P>& tile,
                                            TapWalk walk, WgmmaShared<P>& shared) {
  using G = Conv2dGather<Op, bf16>;
  const G& g = p.gather;
  const auto first = static_cast<int>(tile.first_pixel % (g.out_h * g.out_w));
  const int x = first % g.out_w + walk.horizontal.offset, y = first / g.out_w + walk.vertical.offset;
  const auto n = static_cast<int>(tile.first_pixel / (g.out_h * g.out_w));
  for (unsigned slice = 0; !walk.has_ended(); ++slice, walk.move(P::depth)) {
    const unsigned stage = slice % P::stages, turn = slice / P::stages % 2;
    std::uint64_t* const filled = &shared.filled[stage];
    arch::mbarrier_wait_parity(&shared.emptied[stage], turn ^ 1u);  // at once in the first turn
    arch::mbarrier_arrive_expect_tx(filled, (P::rows + P::columns) * row_bytes);
    const bool is_first = walk.channel < g.c;
    arch::tma_load(
        shared.stages.pixels[stage], is_first ? p.x : p.x2,
        {is_first ? walk.channel : walk.channel - g.c, x + g.direction * walk.j, y + g.direction * walk.i, n},
        filled);
    const int tap = walk.i * g.kernel + walk.j;
    unsigned char* const weights = shared.stages.weights[stage];
    if constexpr (G::is_forward) {
      arch::tma_load(weights, p.weight, {walk.channel, tap, tile.first_column}, filled);
    } else {
#pragma unroll
      for (int column = 0; column < P::columns; column += row_elements)
        arch::tma_load(weights + column / row_elements * P::depth * row_bytes, p.weight,
                       {tile.first_column + column, tap, walk.channel}, filled);
    }
  }
}

// Starts sums += the product of a slice.
template <class P, class G>
__device__ __forceinline__ void multiply_slice(const typename WgmmaShared<P>::Stages& stages, unsigned stage,
                                               WgmmaSums<P>& sums) {
  constexpr auto weight_order = G::is_forward ? arch::Major::k : arch::Major::mn;
  constexpr int weight_step = G::is_forward ? element_bytes : row_bytes;  // of a depth
  constexpr arch::TileStrides strides{P::depth * row_bytes, atom_bytes};
  const int first_row = static_cast<int>(threadIdx.x) / arch::warpgroup_size * P::group_rows;
  arch::wgmma_fence();
#pragma unroll
  for (int depth = 0; depth < P::depth; depth += 16) {
    const auto b = arch::wgmma_descriptor(stages.weights[stage] + depth * weight_step, strides);
#pragma unroll
    for (int i = 0; i < P::group_rows / 64; ++i) {
      const auto a = arch::wgmma_descriptor(
          stages.pixels[stage] + (first_row + 64 * i) * row_bytes + depth * element_bytes, strides);
      arch::wgmma_m64k16_bf16<P::columns, arch::Major::k, weight_order>(sums[i], a, b, arch::Sum::add);
    }
  }
  arch::wgmma_commit();
}

// By the two warpgroups: sums += the product of the slices as they come, at least one. After it, neither reads the
// stages.
template <class P, class G>
__device__ __forceinline__ void multiply_slices(unsigned slices, WgmmaShared<P>& shared, WgmmaSums<P>& sums) {
  const auto empty = [&](unsigned slice) {
    if (threadIdx.x % arch::warpgroup_size == 0) arch::mbarrier_arrive(&shared.emptied[slice % P::stages]);
  };
  unsigned slice = 0;
  // Neither unrolled nor left before its start, either of which moves the sums of products in flight.
#pragma unroll 1
  do {
    arch::mbarrier_wait_parity(&shared.filled[slice % P::stages], slice / P::stages % 2);
    multiply_slice<P, G>(shared.stages, slice % P::stages, sums);
    arch::wgmma_wait<1>();  // the slice before has been read
    if (slice > 0) empty(slice - 1);
  } while (++slice < slices);
  arch::wgmma_wait<0>();
  empty(slices - 1);
  arch::mbarrier_wait_parity(&shared.emptied[(slices - 1) % P::stages], (slices - 1) / P::stages % 2);
}

template <class P>
__device__ __forceinline__ void leave_sums(const WgmmaSums<P>& sums, MmaOutput<P>& output) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % warp_size;
  const int first_row = thread / arch::warpgroup_size * P::group_rows +
                        thread % arch::warpgroup_size / warp_size * 16 + lane / 4;
#pragma unroll
  for (int i = 0; i < P::group_rows / 64; ++i)
#pragma unroll
    for (int j = 0; j < P::columns / 4; ++j)  // pairs of the upper and the lower half of 16 rows, in turn
      Pack<float, 2>{{sums[i][2 * j], sums[i][2 * j + 1]}}.store(
          output.at(first_row + 64 * i + j % 2 * 8, j / 2 * 8 + lane % 4 * 2));
}

// Compiled for 9.0 without its own instructions, or for another capability, it has no body, and no block of its size
// can be started.
template <class P, template <class> class Op>
__global__ __launch_bounds__(arch::has_wgmma ? P::block_threads : 1) void conv2d_wgmma_kernel(
    const __grid_constant__ WgmmaConvolution<Op> p) {
  if constexpr (arch::has_wgmma) {
    using G = Conv2dGather<Op, bf16>;
    const G& g = p.gather;
    auto& shared = shared_memory<WgmmaShared<P>>();
    const auto tile = GatherTile<P>::of_block(g);
    const TapWalk start{tap_run(g, 0, 0), tap_run(g, 0, 0), g.channels()};
    // The same for all lanes, as the compiler sees then too.
    const bool multiplies = __shfl_sync(full_warp, static_cast<int>(threadIdx.x), 0) < P::threads;
    if (threadIdx.x < P::stages) {
      arch::mbarrier_init(&shared.filled[threadIdx.x], 1);
      arch::mbarrier_init(&shared.emptied[threadIdx.x], P::threads / arch::warpgroup_size);
    }
    __syncthreads();
    if (multiplies) {
      find_pixels(g, tile, shared.rows);
      WgmmaSums<P> sums = {};
      multiply_slices<P, G>(static_cast<unsigned>(start.depth() / P::depth), shared, sums);
      leave_sums<P>(sums, shared.output);
    } else if (threadIdx.x == P::threads) {
      copy_slices<P>(p, tile, start, shared);
    }
    __syncthreads();
    if (multiplies) write_mma_tile(g, shared.rows, shared.output, tile.first_column);
    if constexpr (G::is_forward) {
      if (!g.op.moments) return;
      __syncthreads();
      if (multiplies) write_moments(g.op, shared.output, tile);
    }
  }
}

// Whether device and program have wgmma, slices are of one tensor each, and tiles are boxes with no column in vain.
template <GpuLike D, template <class> class Op>
bool supports_wgmma(const D& device, const Op<bf16>& op) {
  using Smallest = WgmmaTilePolicy<WgmmaTile::square>;
  const Conv2dGather<Op, bf16> p = gather_of(op);
  return device.properties().capability == 90 && supports_mma(op) && p.n > 0 && p.c > 0 &&
         p.c % Smallest::depth == 0 && p.c2 % Smallest::depth == 0 && p.out_c % Smallest::columns == 0 &&
         p.classes == 1 && p.step == 1 && is_box(Smallest::rows, p.out_h, p.out_w) &&
         can_launch(device, Smallest::block_threads, conv2d_wgmma_kernel<Smallest, Op>);
}

template <class G>
TensorMap map_pixels(const G& p, const bf16* x, int channels, const PixelBox& box) {
  const auto c = static_cast<std::uint64_t>(channels), w = static_cast<std::uint64_t>(p.w),
             h = static_cast<std::uint64_t>(p.h);
  return make_tensor_map(x, {.rank = 4,
                             .size = {c, w, h, static_cast<std::uint64_t>(p.n)},
                             .stride = {1, c, w * c, h * w * c},
                             .box = {row_elements, static_cast<unsigned>(box.w), static_cast<unsigned>(box.h),
                                     static_cast<unsigned>(box.n)}});
}

// Channels, taps and outputs; the rows of a tile are those outputs that are columns or the depth.
template <class P, class G>
TensorMap map_weights(const G& p) {
  const Conv2dGeometry& s = p.op.shape;
  const auto c = static_cast<std::uint64_t>(s.channels()), taps = static_cast<std::uint64_t>(s.taps());
  return make_tensor_map(
      p.op.weight, {.rank = 3,
                    .size = {c, taps, static_cast<std::uint64_t>(s.cout)},
                    .stride = {1, c, taps * c},
                    .box = {row_elements, 1, static_cast<unsigned>(G::is_forward ? P::columns : P::depth)}});
}

template <class P, GpuLike D, template <class> class Op>
void launch_conv2d_wgmma(const D& device, const Op<bf16>& op) {
  Conv2dGather<Op, bf16> g = gather_of(op);
  g.output = stores_chunks(op) ? QuadAccess::vector : QuadAccess::scalar;
  const PixelBox box = pixel_box(P::rows, g.out_h, g.out_w);
  const TensorMap x = map_pixels(g, g.x, g.c, box);
  const TensorMap x2 = g.c2 ? map_pixels(g, g.x2, g.c2, box) : x;
  launch_kernel<WgmmaShared<P>>(device, gather_grid<P>(g), P::block_threads, conv2d_wgmma_kernel<P, Op>,
                                {g, x, x2, map_weights<P>(g)});
}

}  // namespace ddpm::kernels
