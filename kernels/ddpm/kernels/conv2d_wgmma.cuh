// SPDX-License-Identifier: MIT
// Convolution of bf16, forward and backward to the data, on the tensor cores of compute capability 9.0a.
// Math and parameters: ddpm/ops/conv2d.hpp.
// Algorithm: the implicit GEMM of conv2d.cuh by wgmma, where neither pass skips pixels. The pixels of a tile are a
// box of the images, which TMA copies moved by a tap, with zeros for the padding, and where it can with the rows that
// the taps above and below read too; the weights of a tap are another, which the backward pass reads transposed. One
// warpgroup copies slices into rings, two multiply them. Results leave as in conv2d_mma.cuh.
// Cost: the multiplications of the definition, of pixels and channels rounded up to a tile; reads weights once per
// tile, pixels once per tap or column of taps and tile of columns, mostly from L2.  Bound: wgmma, or L2.
#pragma once

#include <ddpm/kernels/block/wgmma_tile.cuh>
#include <ddpm/kernels/conv2d_mma.cuh>

namespace ddpm::kernels {

template <template <class> class Op>
struct WgmmaConvolution {
  Conv2dGather<Op, bf16> gather;
  PixelStrip strip;
  TensorMap x, x2, weight;
};

inline constexpr unsigned strip_stages = 3;

template <class P>
struct WgmmaGatherShared {
  union {
    WgmmaStages<P, most_strip_lines(P::tile), P::columns, strip_stages> stages;
    MmaOutput<P> output;
  };
  GatheredRows<P::rows> rows;
  WgmmaRings<P, strip_stages> rings;
};

// Of some columns, a tap and the depths from a channel on.
template <class P, template <class> class Op>
__device__ __forceinline__ void copy_weights(const WgmmaConvolution<Op>& p, const int (&first)[3],
                                             unsigned slice, WgmmaGatherShared<P>& shared) {
  const auto [channel, tap, column] = first;
  const unsigned stage = shared.rings.b.open(slice, P::columns * line_bytes);
  std::uint64_t* const filled = &shared.rings.b.filled[stage];
  unsigned char* const to = shared.stages.b[stage];
  if constexpr (Conv2dGather<Op, bf16>::is_forward) {
    arch::tma_load(to, p.weight, {channel, tap, column}, filled);
  } else {
#pragma unroll
    for (int box = 0; box < P::columns / line_elements; ++box)
      arch::tma_load(to + box * box_bytes, p.weight, {column + box * line_elements, tap, channel}, filled);
  }
}

// By one thread: the strips of the tile and the weights of each, one after the other. The strip of the backward pass
// begins with the rows of its last tap.
template <class P, template <class> class Op>
__device__ __forceinline__ void copy_slices(const WgmmaConvolution<Op>& p, const GatherTile<P>& tile,
                                            TapWalk walk, WgmmaGatherShared<P>& shared) {
  using G = Conv2dGather<Op, bf16>;
  const G& g = p.gather;
  const int taps = p.strip.taps;
  const auto first = static_cast<int>(tile.first_pixel % (g.out_h * g.out_w));
  const int x = first % g.out_w + walk.horizontal.offset,
            y = first / g.out_w + walk.vertical.offset - (G::is_forward ? 0 : taps - 1);
  const auto n = static_cast<int>(tile.first_pixel / (g.out_h * g.out_w));
  walk.vertical.count /= taps;
  for (unsigned strip = 0, slice = 0; !walk.has_ended(); ++strip, walk.move(P::depth)) {
    const unsigned stage = shared.rings.a.open(strip, static_cast<unsigned>(p.strip.lines() * line_bytes));
    const bool is_first = walk.channel < g.c;
    arch::tma_load(
        shared.stages.a[stage], is_first ? p.x : p.x2,
        {is_first ? walk.channel : walk.channel - g.c, x + g.direction * walk.j, y + g.direction * walk.i, n},
        &shared.rings.a.filled[stage]);
    for (int i = 0; i < taps; ++i, ++slice) {
      const int tap = (walk.i + (G::is_forward ? i : taps - 1 - i)) * g.kernel + walk.j;
      copy_weights<P>(p, {walk.channel, tap, tile.first_column}, slice, shared);
    }
  }
}

// Compiled for 9.0 without its own instructions, or for another capability, it has no body, and no block of its size
// can be started.
template <class P, template <class> class Op>
__global__ __launch_bounds__(arch::has_wgmma ? P::block_threads : 1) void conv2d_wgmma_kernel(
    const __grid_constant__ WgmmaConvolution<Op> p) {
  if constexpr (arch::has_wgmma) {
    using G = Conv2dGather<Op, bf16>;
    const G& g = p.gather;
    auto& shared = shared_memory<WgmmaGatherShared<P>>();
    const auto tile = GatherTile<P>::of_block(g);
    const TapWalk start{tap_run(g, 0, 0), tap_run(g, 0, 0), g.channels()};
    const bool multiplies = multiplies_slices<P>();
    shared.rings.init();
    __syncthreads();
    if (multiplies) {
      find_pixels(g, tile, shared.rows);
      constexpr auto weights = G::is_forward ? arch::Major::k : arch::Major::mn;
      WgmmaSums<P> sums = {};
      const auto [box, taps] = p.strip;
      multiply_wgmma_slices<P, arch::Major::k, weights>(
          static_cast<unsigned>(start.depth() / P::depth),
          {.slices = taps, .step = box.w, .piece = box.w * box.h, .gap = (taps - 1) * box.w}, shared.stages,
          shared.rings, sums);
#pragma unroll
      for (int i = 0; i < P::group_rows / 64; ++i)
#pragma unroll
        for (int first = 0; first < P::columns; first += 64)
          for_each_pair<P>(sums[i], first, [&](int row, int column, float left, float right) {
            Pack<float, 2>{{left, right}}.store(shared.output.at(64 * i + row, column));
          });
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
  return device.properties().capability == 90 && supports_mma(op) && p.n > 0 && p.c >= Smallest::depth &&
         p.out_c >= Smallest::columns && p.c % Smallest::depth == 0 && p.c2 % Smallest::depth == 0 &&
         p.out_c % Smallest::columns == 0 && p.classes == 1 && p.step == 1 &&
         is_box(Smallest::rows, p.out_h, p.out_w) &&
         can_launch(device, Smallest::block_threads, conv2d_wgmma_kernel<Smallest, Op>);
}

template <class G>
TensorMap map_pixels(const G& p, const bf16* x, int channels, const PixelBox& box) {
  const auto c = static_cast<std::uint64_t>(channels), w = static_cast<std::uint64_t>(p.w),
             h = static_cast<std::uint64_t>(p.h);
  return make_tensor_map(x, {.rank = 4,
                             .size = {c, w, h, static_cast<std::uint64_t>(p.n)},
                             .stride = {1, c, w * c, h * w * c},
                             .box = {line_elements, static_cast<unsigned>(box.w),
                                     static_cast<unsigned>(box.h), static_cast<unsigned>(box.n)}});
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
                    .box = {line_elements, 1, static_cast<unsigned>(G::is_forward ? P::columns : P::depth)}});
}

template <class P, GpuLike D, template <class> class Op>
void launch_conv2d_wgmma(const D& device, const Op<bf16>& op) {
  Conv2dGather<Op, bf16> g = gather_of(op);
  g.output = stores_chunks(op) ? QuadAccess::vector : QuadAccess::scalar;
  const PixelStrip strip = pixel_strip(P::tile, g.kernel, g.out_h, g.out_w);
  const PixelBox box{strip.box.w, strip.rows(), strip.box.n};
  const TensorMap x = map_pixels(g, g.x, g.c, box);
  const TensorMap x2 = g.c2 ? map_pixels(g, g.x2, g.c2, box) : x;
  launch_kernel<WgmmaGatherShared<P>>(device, gather_grid<P>(g), P::block_threads, conv2d_wgmma_kernel<P, Op>,
                                      {g, strip, x, x2, map_weights<P>(g)});
}

}  // namespace ddpm::kernels
