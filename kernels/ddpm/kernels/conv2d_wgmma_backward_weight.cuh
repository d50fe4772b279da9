// SPDX-License-Identifier: MIT
// Convolution of bf16, backward to weight and bias, on the tensor cores of compute capability 9.0a.
// Math and parameters: ddpm/ops/conv2d.hpp.
// Algorithm: the implicit GEMM of conv2d_mma_backward_weight.cuh by wgmma, where dy skips no pixels of x. The pixels
// of a slice are a box of the images, which TMA copies from dy, and from x moved by a tap, with zeros for the padding.
// Where it can, columns are of three taps above each other, which read one strip of x. Both operands are neighbours
// across the product, as wgmma takes them. In blocks of the first columns two more warps sum dy, for the bias. Parts of
// the pixels are added by the same kernel in the same order.
// With upsampling, the pixels of dy in even or odd rows and columns are a class. To it the three taps along an axis are
// of two pixels of x, so its gradient is that of a convolution of 2 x 2, and a tap's the sum of the four classes'.
// Cost: the multiplications of the definition, with upsampling 4/9 of them, rounded up to tiles; reads x once per tap or
// column of taps and tile of rows and dy once per tile of columns, mostly from L2.  Bound: wgmma, or L2.
#pragma once

#include <ddpm/kernels/block/wgmma_tile.cuh>
#include <ddpm/kernels/conv2d_mma_backward_weight.cuh>
#include <ddpm/kernels/conv2d_wgmma.cuh>

namespace ddpm::kernels {

inline constexpr unsigned bias_warps = 2;  // of the warpgroup that copies, after the one that does

struct WgmmaBackwardWeight {
  Conv2dBackwardWeightPart<bf16> part;  // of a class, see class_of()
  PixelStrip strip;                     // of x for a slice
  TensorMap dy, x, x2;
};

template <class P>
struct WgmmaWeightShared {
  static constexpr int box_lines = P::rows * P::depth / line_elements;
  static constexpr int strip_lines = P::taps > 1 ? most_strip_lines(P::tile) : P::columns;

  WgmmaStages<P, box_lines, strip_lines, P::stages> stages;
  WgmmaRings<P, P::stages> rings;
};

// The tile of a block, and the slices of its part: at least one, which is of zeros where the part has no pixels.
template <class P>
struct WgmmaWeightTile {
  int first_row, first_box;  // boxes are 64 columns
  int residue_y, residue_x;  // the class
  std::int64_t first_pixel;
  unsigned slices;

  __device__ __forceinline__ static WgmmaWeightTile of_block(const Conv2dBackwardWeightPart<bf16>& p) {
    const Conv2dGeometry& g = p.op.shape;
    const auto column_tiles = static_cast<unsigned>((g.taps() * g.channels() + P::columns - 1) / P::columns);
    const auto classes = static_cast<unsigned>(classes_of(g)), residues = blockIdx.y % classes;
    const std::int64_t first = std::int64_t{blockIdx.y / classes} * p.pixels,
                       left = min(p.pixels, g.pixels() - first);
    return {static_cast<int>(blockIdx.x / column_tiles) * P::rows,
            static_cast<int>(blockIdx.x % column_tiles) * (P::columns / line_elements),
            static_cast<int>(residues / 2),
            static_cast<int>(residues % 2),
            first,
            static_cast<unsigned>((max(left, std::int64_t{1}) + P::depth - 1) / P::depth)};
  }
  // The first column of the i-th box. Taps above each other are that far apart.
  __device__ __forceinline__ int column(const Conv2dGeometry& g, int i) const {
    const int box = first_box + i;
    return box % P::taps * g.kernel * g.channels() + box / P::taps * line_elements;
  }
};

// Neighbouring channels of x under a tap, at pixel 0 of dy.
struct TapBox {
  const TensorMap* map;
  int channel, x, y;

  // Beyond the last column it is of a tap that does not exist, and whose sums nobody writes.
  template <class P>
  __device__ __forceinline__ static TapBox of(const WgmmaBackwardWeight& p, const WgmmaWeightTile<P>& tile,
                                              int box) {
    const Conv2dGeometry& g = p.part.op.shape;
    const int column = tile.column(g, box), tap = column / g.channels(), channel = column % g.channels();
    const bool is_first = channel < g.c;
    return {is_first ? &p.x : &p.x2, is_first ? channel : channel - g.c,
            tap % g.kernel + source_of(g, tile.residue_x), tap / g.kernel + source_of(g, tile.residue_y)};
  }
};

// By one thread: the slices of the tile, one after the other.
template <class P>
__device__ __forceinline__ void copy_slices(const WgmmaBackwardWeight& p, const WgmmaWeightTile<P>& tile,
                                            WgmmaWeightShared<P>& shared) {
  constexpr int strips = P::columns / line_elements / P::taps;
  const Conv2dGeometry& g = p.part.op.shape;
  TapBox taps[strips];
#pragma unroll
  for (int strip = 0; strip < strips; ++strip) taps[strip] = TapBox::of(p, tile, strip * P::taps);
  const int first_channel = tile.residue_x * g.cout + tile.first_row;
  PixelWalk walk = PixelWalk::from(g, tile.first_pixel, g.pixels());
  for (unsigned slice = 0; slice < tile.slices; ++slice) {
    unsigned stage = shared.rings.a.open(slice, sizeof shared.stages.a[0]);
#pragma unroll
    for (int box = 0; box < P::rows / line_elements; ++box)
      arch::tma_load(shared.stages.a[stage] + box * P::depth * line_bytes, p.dy,
                     {first_channel + box * line_elements, walk.q, tile.residue_y, walk.n * g.p + walk.p},
                     &shared.rings.a.filled[stage]);
    stage = shared.rings.b.open(slice, static_cast<unsigned>(strips * p.strip.lines() * line_bytes));
#pragma unroll
    for (int strip = 0; strip < strips; ++strip)
      arch::tma_load(shared.stages.b[stage] + strip * box_bytes, *taps[strip].map,
                     {taps[strip].channel, walk.q + taps[strip].x, walk.p + taps[strip].y, walk.n},
                     &shared.rings.b.filled[stage]);
    walk.move(g, P::depth);
  }
}

// By bias_warps: sums dy as it comes, and adds to dbias, or writes a part.
template <class P>
__device__ __forceinline__ void add_bias_gradient(const Conv2dBackwardWeightPart<bf16>& p,
                                                  const WgmmaWeightTile<P>& tile,
                                                  WgmmaWeightShared<P>& shared) {
  constexpr int boxes = P::rows / line_elements / static_cast<int>(bias_warps);
  const int warp = static_cast<int>(threadIdx.x - P::threads) / warp_size - 1;
  const int first_channel = 2 * (static_cast<int>(threadIdx.x) % warp_size);  // of each box
  float sum[boxes][2] = {};
  for (unsigned slice = 0; slice < tile.slices; ++slice) {
    const unsigned char* const slices =
        shared.stages.a[shared.rings.a.wait(slice)] + warp * boxes * P::depth * line_bytes;
#pragma unroll
    for (int box = 0; box < boxes; ++box)
#pragma unroll 8
      for (int pixel = 0; pixel < P::depth; ++pixel) {
        const int offset = (box * P::depth + pixel) * line_bytes + first_channel * element_bytes;
        const auto pair = Pack<bf16, 2>::load(
            reinterpret_cast<const bf16*>(slices + arch::swizzle_128(static_cast<unsigned>(offset))));
        sum[box][0] += static_cast<float>(pair[0]);
        sum[box][1] += static_cast<float>(pair[1]);
      }
    __syncwarp();
    if (first_channel == 0) shared.rings.a.release(slice);
  }
#pragma unroll
  for (int box = 0; box < boxes; ++box)
#pragma unroll
    for (int i = 0; i < 2; ++i)
      p.add_to_bias(tile.first_row + (warp * boxes + box) * line_elements + first_channel + i, sum[box][i]);
}

// Adds to dweight, or writes a part.
template <class P>
__device__ __forceinline__ void add_wgmma_gradient(const Conv2dBackwardWeightPart<bf16>& p,
                                                   const WgmmaWeightTile<P>& tile, WgmmaSums<P>& sums) {
  const Conv2dGeometry& g = p.op.shape;
  const int columns = g.taps() * g.channels();
  float* const to = p.partial ? p.partial + std::int64_t{blockIdx.y} * g.cout * columns : p.op.dweight;
#pragma unroll
  for (int i = 0; i < P::group_rows / 64; ++i)
#pragma unroll
    for (int first = 0; first < P::columns; first += line_elements) {
      const int first_row = tile.first_row + first_row_of_group<P>() + 64 * i,
                first_column = tile.column(g, first / line_elements);
      const auto for_each = [&](auto use) {
        for_each_pair(sums[i], first, [&](int row, int column, float& left, float& right) {
          const int r = first_row + row, c = first_column + column;
          if (r < g.cout && c < columns) use(to + std::int64_t{r} * columns + c, left, right);
        });
      };
      if (!p.partial)  // all loads before the first store, so that they overlap
        for_each([](const float* from, float& left, float& right) {
          const auto earlier = Pack<float, 2>::load(from);
          left += earlier[0];
          right += earlier[1];
        });
      for_each([](float* at, float left, float right) { Pack<float, 2>{{left, right}}.store(at); });
    }
}

// See conv2d_wgmma_kernel for what it is compiled to.
template <class P>
__global__ __launch_bounds__(arch::has_wgmma ? P::block_threads : 1) void conv2d_backward_weight_wgmma_kernel(
    const __grid_constant__ WgmmaBackwardWeight p) {
  if constexpr (arch::has_wgmma) {
    auto& shared = shared_memory<WgmmaWeightShared<P>>();
    const auto tile = WgmmaWeightTile<P>::of_block(p.part);
    const bool multiplies = multiplies_slices<P>(), has_bias = p.part.op.dbias && tile.first_box == 0;
    shared.rings.init(has_bias ? bias_warps : 0);
    __syncthreads();
    if (multiplies) {
      WgmmaSums<P> sums = {};
      const PixelBox& box = p.strip.box;
      SliceLayout layout;
      if constexpr (P::taps > 1)
        layout = {.column_step = box.w, .depth_gap = box.n > 1 ? (p.strip.rows() - box.h) * box.w : 0};
      RingPlace place;
      multiply_wgmma_slices<P, arch::Major::mn, arch::Major::mn>(tile.slices, layout, shared, place, sums);
      add_wgmma_gradient<P>(p.part, tile, sums);
    } else if (threadIdx.x == P::threads) {
      copy_slices<P>(p, tile, shared);
    } else if (has_bias && threadIdx.x / warp_size - P::threads / warp_size - 1 < bias_warps) {
      add_bias_gradient<P>(p.part, tile, shared);
    }
  }
}

// Whether device and program have wgmma, and slices are boxes of pixels and of channels of one tensor each.
template <GpuLike D>
bool supports_wgmma(const D& device, const Conv2dBackwardWeight<bf16>& op) {
  using Smallest = WgmmaTilePolicy<WgmmaTile::square>;
  const Conv2dGeometry& g = op.shape;
  return device.properties().capability == 90 && supports_mma(op) && g.n > 0 && g.c >= line_elements &&
         g.cout >= chunk && g.c % line_elements == 0 && g.c2 % line_elements == 0 && g.stride == 1 &&
         (g.upsample == 1 || (g.kernel == 3 && g.p % 2 == 0 && g.q % 2 == 0)) &&
         is_box(Smallest::depth, class_of(g).p, class_of(g).q) &&
         can_launch(device, Smallest::block_threads, conv2d_backward_weight_wgmma_kernel<Smallest>);
}

// The pixels of dy by class: channels of an even and an odd column, columns, even and odd, rows. The rows of all images
// follow each other.
inline TensorMap map_classes(const Conv2dBackwardWeight<bf16>& op, const PixelBox& box) {
  const Conv2dGeometry g = class_of(op.shape);
  const auto classes = static_cast<std::uint64_t>(g.upsample),
             c = classes * static_cast<std::uint64_t>(g.cout), q = static_cast<std::uint64_t>(g.q),
             rows = static_cast<std::uint64_t>(g.n) * static_cast<std::uint64_t>(g.p);
  return make_tensor_map(
      op.dy, {.rank = 4,
              .size = {c, q, classes, rows},
              .stride = {1, c, c * q, classes * c * q},
              .box = {line_elements, static_cast<unsigned>(box.w), 1, static_cast<unsigned>(box.h * box.n)}});
}

// The parts of the classes of an upsampled convolution.
struct AdditionOfClasses {
  Conv2dBackwardWeight<bf16> op;
  const float* partial;       // [parts, 4, Cout, 2, 2, C + C2]
  const float* partial_bias;  // [parts, 4, Cout]
  int parts;

  // Which of the two pixels of a class the tap reads, along an axis.
  __device__ __forceinline__ int source(int residue, int tap) const {
    return source_of(op.shape, residue + tap) - source_of(op.shape, residue);
  }
};

// dweight and dbias += the sums of the parts, in their order.
template <class P>
__global__ __launch_bounds__(P::threads_of_addition) void add_classes_kernel(
    const __grid_constant__ AdditionOfClasses p) {
  const Conv2dGeometry& g = p.op.shape;
  const int columns = g.taps() * g.channels();
  const std::int64_t i = std::int64_t{blockIdx.x} * P::threads_of_addition + threadIdx.x,
                     bias = i - std::int64_t{g.cout} * columns;
  float sum = 0;
  if (bias >= 0) {
    if (!p.op.dbias || bias >= g.cout) return;
    for (int part = 0; part < 4 * p.parts; ++part) sum += p.partial_bias[std::int64_t{part} * g.cout + bias];
    p.op.dbias[bias] += sum;
    return;
  }
  const auto out = static_cast<int>(i / columns), column = static_cast<int>(i % columns);
  const int tap = column / g.channels(), channel = column % g.channels();
  for (int part = 0; part < p.parts; ++part)
    for (int y = 0; y < 2; ++y)
      for (int x = 0; x < 2; ++x) {
        const int class_tap = 2 * p.source(y, tap / g.kernel) + p.source(x, tap % g.kernel);
        const std::int64_t row = std::int64_t{4 * part + 2 * y + x} * g.cout + out;
        sum += p.partial[(4 * row + class_tap) * g.channels() + channel];
      }
  p.op.dweight[i] += sum;
}

// As launch_in_parts(), of an upsampled convolution. The parts are those of all classes.
template <GpuLike D, class Start>
void launch_in_classes(const D& device, const Conv2dBackwardWeight<bf16>& op, int parts, int depth,
                       Start start) {
  using Policy = Conv2dBackwardWeightPolicy;
  Conv2dBackwardWeight<bf16> of_class = op;
  of_class.shape = class_of(op.shape);
  const Conv2dGeometry& g = of_class.shape;
  const int of_each = parts / classes_of(g), biases = op.dbias ? g.cout : 0;
  const std::int64_t slices = blocks_for(blocks_for(g.pixels(), of_each), depth);
  const Tensor<float, D> partial(device, {parts, g.cout, g.taps(), g.channels()}),
      partial_bias(device, {parts, biases});
  start(Conv2dBackwardWeightPart<bf16>{of_class, slices * depth, partial.data(), partial_bias.data(),
                                       QuadAccess::vector});
  const std::int64_t count = std::int64_t{g.cout} * op.shape.taps() * g.channels() + biases;
  launch_kernel(device, blocks_for(count, Policy::threads_of_addition), Policy::threads_of_addition,
                add_classes_kernel<Policy>, {op, partial.data(), partial_bias.data(), of_each});
}

template <class P, GpuLike D>
void launch_conv2d_backward_weight_wgmma(const D& device, const Conv2dBackwardWeight<bf16>& op, int parts) {
  const Conv2dGeometry g = class_of(op.shape);
  const PixelStrip strip = P::taps > 1 ? pixel_strip(P::tile, g.kernel, g.p, g.q)
                                       : PixelStrip{pixel_box(P::depth, g.p, g.q), 1, 0};
  const PixelBox box{strip.box.w, strip.rows(), strip.box.n};
  const TensorMap dy = map_classes(op, strip.box);
  const TensorMap x = map_pixels(g, op.x, g.c, box);
  const TensorMap x2 = g.c2 ? map_pixels(g, op.x2, g.c2, box) : x;
  const auto start = [&](const Conv2dBackwardWeightPart<bf16>& part) {
    launch_kernel<WgmmaWeightShared<P>>(
        device, {static_cast<unsigned>(mma_tiles_of_weight<P>(g)), static_cast<unsigned>(parts)},
        P::block_threads, conv2d_backward_weight_wgmma_kernel<P>, {part, strip, dy, x, x2});
  };
  if (g.upsample == 1)
    launch_in_parts(device, op, parts, P::depth, start);
  else
    launch_in_classes(device, op, parts, P::depth, start);
}

}  // namespace ddpm::kernels
