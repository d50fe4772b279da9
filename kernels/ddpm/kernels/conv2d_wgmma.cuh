// SPDX-License-Identifier: MIT
// Convolution of bf16, forward and backward to the data, on the tensor cores of compute capability 9.0a.
// Math and parameters: ddpm/ops/conv2d.hpp.
// Algorithm: the implicit GEMM of conv2d.cuh by wgmma, with a stride of 1. The pixels of a tile are a box of the images,
// which TMA copies moved by a tap, with zeros for the padding, and where it can with the rows that the taps above and
// below read too; the weights of a tap are another, which the backward pass reads transposed. With upsampling, a tile is
// of pixels of y in even or odd rows and columns, and dy is copied as boxes of those. One warpgroup copies slices into
// rings, two multiply them. Results leave as in conv2d_mma.cuh, 64 x 64 at a time, while the next tile's slices come: there
// is a block for each multiprocessor, which takes one tile after another.
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
  int classes;               // of pixels that are read
  unsigned tiles, of_class;  // and of a class of pixels that are written
  TensorMap x, x2, weight;
};

template <class P>
inline constexpr unsigned strip_stages = P::tile == WgmmaTile::wide ? 2 : 3;

// What a warpgroup writes at once.
struct WgmmaOutputPolicy {
  static constexpr int rows = 64, columns = 64, threads = arch::warpgroup_size;
};

struct WgmmaGroupOutput {
  MmaOutput<WgmmaOutputPolicy> sums;
  GatheredRows<WgmmaOutputPolicy::rows> rows;
  std::uint64_t barrier;
};

template <class P>
struct WgmmaGatherShared {
  WgmmaStages<P, most_strip_lines(P::tile), P::columns, strip_stages<P>> stages;
  WgmmaGroupOutput output[2];
  WgmmaRings<P, strip_stages<P>> rings;
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

// Which pixel of x a tap reads at pixel 0 of a class of y, along an axis; with upsampling, classes are of even and odd
// pixels. `position` is the class plus the tap.
__device__ __forceinline__ int source_of(const Conv2dGeometry& g, int position) {
  return (position - g.pad_begin) >> (g.upsample - 1);
}

// A place along the depth: taps from (i, j) down, channels from one on, pixels of a class of y.
struct StripPlace {
  int i, j, channel;
  int residue_y, residue_x;
};

// The pixels of the tile at the place. The strip of the backward pass begins with the rows of its last tap; its tensors
// are the even and the odd rows of dy, where columns of either kind are channels.
template <class P, template <class> class Op>
__device__ __forceinline__ void copy_strip(const WgmmaConvolution<Op>& p, const GatherTile<P>& tile,
                                           const StripPlace& at, unsigned strip,
                                           WgmmaGatherShared<P>& shared) {
  using G = Conv2dGather<Op, bf16>;
  const G& g = p.gather;
  const auto first = static_cast<int>(tile.first_pixel % (tile.h * tile.w));
  const int first_tap = G::is_forward ? at.i : at.i + p.strip.taps - 1;
  const int x = first % tile.w + g.direction * source_of(g.op.shape, at.residue_x + at.j),
            y = first / tile.w + g.direction * source_of(g.op.shape, at.residue_y + first_tap);
  const bool is_first = G::is_forward ? at.channel < g.c : at.residue_y == 0;
  const int channel = G::is_forward ? at.channel - (is_first ? 0 : g.c) : at.residue_x * g.c + at.channel;
  const unsigned stage = shared.rings.a.open(strip, static_cast<unsigned>(p.strip.lines() * line_bytes));
  arch::tma_load(shared.stages.a[stage], is_first ? p.x : p.x2,
                 {channel, x, y, static_cast<int>(tile.first_pixel / (tile.h * tile.w))},
                 &shared.rings.a.filled[stage]);
}

// By one thread: the strips of the tile and the weights of each, one after the other.
template <class P, template <class> class Op>
__device__ __forceinline__ void copy_slices(const WgmmaConvolution<Op>& p, const GatherTile<P>& tile,
                                            RingPlace& place, WgmmaGatherShared<P>& shared) {
  using G = Conv2dGather<Op, bf16>;
  const G& g = p.gather;
  const int taps = p.strip.taps;
  for (int i = 0; i < g.kernel; i += taps)
    for (int j = 0; j < g.kernel; ++j)
      for (int channel = 0; channel < g.channels(); channel += P::depth)
        for (int k = 0; k < p.classes; ++k, ++place.a) {
          const int residue_y = G::is_forward ? tile.residue_y : k % 2,
                    residue_x = G::is_forward ? tile.residue_x : k / 2;
          copy_strip<P>(p, tile, {i, j, channel, residue_y, residue_x}, place.a, shared);
          for (int row = 0; row < taps; ++row, ++place.b) {
            const int tap = (i + (G::is_forward ? row : taps - 1 - row)) * g.kernel + j;
            copy_weights<P>(p, {channel, tap, tile.first_column}, place.b, shared);
          }
        }
}

// How the slices of a tile lie in its strips. With upsampling two taps above each other read the same row, the first two
// or the last; a backward pass comes to both classes of rows in turn.
template <class P, template <class> class Op>
__device__ __forceinline__ SliceLayout layout_of(const WgmmaConvolution<Op>& p, const GatherTile<P>& tile) {
  const auto& [box, taps, doubled] = p.strip;
  const bool is_forward = Conv2dGather<Op, bf16>::is_forward;
  const int pad = p.gather.op.shape.pad_begin;
  return {.slices = taps,
          .step = box.w,
          .piece = box.w * box.h,
          .gap = (p.strip.rows() - box.h) * box.w,
          .doubled = doubled,
          .lead = (pad ^ (is_forward ? tile.residue_y : taps)) & doubled,
          .alternates = is_forward ? 0 : doubled};
}

// Of the threads of a warpgroup with each other.
class WgmmaGroupBarrier {
 public:
  __device__ __forceinline__ explicit WgmmaGroupBarrier(std::uint64_t& barrier) : barrier_(barrier) {}

  __device__ __forceinline__ void wait() {
    __syncwarp();
    if (threadIdx.x % warp_size == 0) arch::mbarrier_arrive(&barrier_);
    arch::mbarrier_wait_parity(&barrier_, parity_);
    parity_ ^= 1u;
  }

 private:
  std::uint64_t& barrier_;
  unsigned parity_ = 0;
};

// By a warpgroup, whose part of the tile it finishes and stores.
template <class P, class G>
__device__ __forceinline__ void write_wgmma_tile(const G& g, const GatherTile<P>& tile, WgmmaSums<P>& sums,
                                                 WgmmaGroupOutput& output, WgmmaGroupBarrier& barrier) {
  using Part = WgmmaOutputPolicy;
  const int thread = static_cast<int>(threadIdx.x) % Part::threads;
#pragma unroll
  for (int i = 0; i < P::group_rows / Part::rows; ++i) {
    GatherTile<Part> part{tile.first_column,
                          tile.first_pixel + first_row_of_group<P>() + i * Part::rows,
                          tile.residue_y,
                          tile.residue_x,
                          tile.h,
                          tile.w};
    find_pixels(g, part, output.rows, thread);
#pragma unroll
    for (int first = 0; first < P::columns; first += Part::columns) {
      part.first_column = tile.first_column + first;
      for_each_pair(sums[i], first, [&](int row, int column, float left, float right) {
        Pack<float, 2>{{left, right}}.store(output.sums.at(row, column));
      });
      barrier.wait();
      write_mma_tile(g, output.rows, output.sums, part.first_column, thread);
      if constexpr (G::is_forward)
        if (g.op.moments) {
          barrier.wait();
          write_moments(g.op, output.sums, part, thread);
        }
      barrier.wait();
    }
  }
}

// Compiled for 9.0 without its own instructions, or for another capability, it has no body, and no block of its size
// can be started.
template <class P, template <class> class Op>
__global__ __launch_bounds__(arch::has_wgmma ? P::block_threads : 1,
                             1) void conv2d_wgmma_kernel(const __grid_constant__ WgmmaConvolution<Op> p) {
  if constexpr (arch::has_wgmma) {
    using G = Conv2dGather<Op, bf16>;
    const G& g = p.gather;
    auto& shared = shared_memory<WgmmaGatherShared<P>>();
    const auto for_each_tile = [&](auto use) {
      for (unsigned i = blockIdx.x; i < p.tiles; i += gridDim.x) {
        const auto residue = static_cast<int>(i / p.of_class);
        use(GatherTile<P>::at(g, i % p.of_class, residue / g.classes, residue % g.classes));
      }
    };
    const bool multiplies = multiplies_slices<P>();
    shared.rings.init();
    if (threadIdx.x < 2)
      arch::mbarrier_init(&shared.output[threadIdx.x].barrier, arch::warpgroup_size / warp_size);
    __syncthreads();
    RingPlace place;
    // A thread starts with 168, of which those that copy need few: 2 * 240 + 24 are as many as 3 * 168.
    if (multiplies) {
      arch::take_registers<240>();
      constexpr auto weights = G::is_forward ? arch::Major::k : arch::Major::mn;
      const int slices = p.classes * g.kernel * g.kernel * g.channels() / P::depth;
      WgmmaGroupOutput& output = shared.output[threadIdx.x / arch::warpgroup_size];
      WgmmaGroupBarrier barrier(output.barrier);
      for_each_tile([&](const GatherTile<P>& tile) {
        WgmmaSums<P> sums = {};
        multiply_wgmma_slices<P, arch::Major::k, weights>(static_cast<unsigned>(slices),
                                                          layout_of<P>(p, tile), shared, place, sums);
        write_wgmma_tile<P>(g, tile, sums, output, barrier);
      });
    } else {
      arch::give_up_registers<24>();
      if (threadIdx.x == P::threads)
        for_each_tile([&](const GatherTile<P>& tile) { copy_slices<P>(p, tile, place, shared); });
    }
  }
}

// Whether device and program have wgmma, slices are of one tensor each, tiles are boxes, and those of many columns have
// none in vain.
template <GpuLike D, template <class> class Op>
bool supports_wgmma(const D& device, const Op<bf16>& op) {
  using Smallest = WgmmaTilePolicy<WgmmaTile::square>;
  const Conv2dGather<Op, bf16> p = gather_of(op);
  const WgmmaTile tile = smallest_wgmma_tile(p.out_c);
  return device.properties().capability == 90 && supports_mma(op) && p.n > 0 && p.c >= Smallest::depth &&
         p.c % Smallest::depth == 0 && p.c2 % Smallest::depth == 0 && p.out_c > 0 &&
         (tile == WgmmaTile::narrow || p.out_c % Smallest::columns == 0) && op.shape.stride == 1 &&
         op.shape.p % op.shape.upsample == 0 && op.shape.q % op.shape.upsample == 0 &&
         is_box(size_of(tile).rows, p.class_h(), p.class_w()) &&
         can_launch(device, Smallest::block_threads, conv2d_wgmma_kernel<Smallest, Op>);
}

// Where `doubled` is 1, every other row from that of x on, whose even columns are so many channels, followed by the odd.
template <class G>
TensorMap map_pixels(const G& p, const bf16* x, int channels, const PixelBox& box, int doubled = 0) {
  const auto c = static_cast<std::uint64_t>(channels << doubled),
             w = static_cast<std::uint64_t>(p.w >> doubled), h = static_cast<std::uint64_t>(p.h >> doubled),
             row = w * c << doubled;
  return make_tensor_map(x, {.rank = 4,
                             .size = {c, w, h, static_cast<std::uint64_t>(p.n)},
                             .stride = {1, c, row, h * row},
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

// By at most so many blocks.
template <class P, GpuLike D, template <class> class Op>
void launch_conv2d_wgmma(const D& device, const Op<bf16>& op, int blocks) {
  Conv2dGather<Op, bf16> g = gather_of(op);
  g.output = stores_chunks(op) ? QuadAccess::vector : QuadAccess::scalar;
  constexpr bool is_forward = Conv2dGather<Op, bf16>::is_forward;
  bool lacks_moments = false;
  if constexpr (is_forward) {
    lacks_moments = op.moments && !mma_gives_moments(op.shape);
    if (lacks_moments) g.op.moments = nullptr;
  }
  const PixelStrip strip = pixel_strip(P::tile, g.kernel, g.class_h(), g.class_w(), op.shape.upsample - 1);
  const PixelBox box{strip.box.w, strip.rows(), strip.box.n};
  const int doubled = is_forward ? 0 : strip.doubled;
  const TensorMap x = map_pixels(g, g.x, g.c, box, doubled);
  TensorMap x2 = x;
  if (g.c2) x2 = map_pixels(g, g.x2, g.c2, box);
  if (doubled) x2 = map_pixels(g, g.x + std::int64_t{g.w} * g.c, g.c, box, doubled);
  const int classes = is_forward ? 1 : classes_of(op.shape);
  static_assert(sizeof(WgmmaGatherShared<P>) <= 227 << 10);
  const dim3 grid = gather_grid<P>(g);
  const unsigned tiles = grid.x * grid.y * grid.z;
  launch_kernel<WgmmaGatherShared<P>>(device, std::min(tiles, static_cast<unsigned>(blocks)),
                                      P::block_threads, conv2d_wgmma_kernel<P, Op>,
                                      {g, strip, classes, tiles, grid.x, x, x2, map_weights<P>(g)});
  if constexpr (is_forward)
    if (lacks_moments) launch_channel_moments(device, op);
}

}  // namespace ddpm::kernels
