// SPDX-License-Identifier: MIT
// Convolution, backward to weight and bias, in float arithmetic.  Math and parameters: ddpm/ops/conv2d.hpp.
// Algorithm: implicit GEMM. Rows are taps times input channels, columns output channels, the depth is the
// pixels of dy. Blocks of the first rows also sum dy, for the bias. Where the gradient has too few tiles for a GPU,
// blocks along y have a part of the pixels each and leave partial sums, which one more kernel adds in order; how many
// parts depends on the shape and the number of multiprocessors alone.
// Cost: the multiplications of the definition; reads x once per tap and tile of columns and dy once per tile
// of rows, mostly from L1 and L2.  Bound: FFMA.
#pragma once

#include <algorithm>

#include <ddpm/core/tensor.hpp>
#include <ddpm/kernels/block/tile.cuh>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm::kernels {

struct Conv2dBackwardWeightPolicy {
  static constexpr int blocks = 2;          // wanted, of each multiprocessor
  static constexpr int least_pixels = 256;  // of a part
  static constexpr int threads_of_addition = 256;
};

template <class T>
struct Conv2dBackwardWeightPart {
  Conv2dBackwardWeight<T> op;
  std::int64_t pixels;  // of a part
  float* partial;       // [parts, Cout, K, K, C + C2]; null for one part, which adds to dweight itself
  float* partial_bias;  // [parts, Cout]; null likewise
  QuadAccess output;

  __device__ __forceinline__ void add_to_bias(int channel, float value) const {
    if (channel >= op.shape.cout) return;
    if (partial_bias)
      partial_bias[std::int64_t{blockIdx.y} * op.shape.cout + channel] = value;
    else
      op.dbias[channel] += value;
  }
};

// A pixel of dy as the depth of the product. Kept as coordinates, so that moving on divides nothing.
struct PixelWalk {
  int n, p, q;
  std::int64_t left;  // pixels to the end of the part

  __device__ __forceinline__ static PixelWalk from(const Conv2dGeometry& g, std::int64_t pixel,
                                                   std::int64_t end) {
    const std::int64_t line = pixel / g.q;
    return {static_cast<int>(line / g.p), static_cast<int>(line % g.p), static_cast<int>(pixel % g.q),
            end - pixel};
  }
  __device__ __forceinline__ void move(const Conv2dGeometry& g, int by) {
    left -= by;
    for (q += by; q >= g.q; q -= g.q)
      if (++p == g.p) {
        p = 0;
        ++n;
      }
  }
};

// Rows of the product: what a tap of some channels reads at each pixel.
template <class T>
struct TapPixels {
  const Conv2dGeometry& g;
  const T* from;  // the channel, in pixel 0 of its tensor
  int channels;   // of that tensor
  int y, x;       // of the tap, with the padding
  PixelWalk walk;

  __device__ __forceinline__ TapPixels(const Conv2dBackwardWeight<T>& p, int row, const PixelWalk& start)
      : g(p.shape), walk(start) {
    const int tap = row / g.channels(), channel = row % g.channels();
    const bool is_first = channel < g.c;
    channels = is_first ? g.c : g.c2;
    from = is_first ? p.x + channel : p.x2 + (channel - g.c);
    y = tap < g.taps() ? tap / g.kernel - g.pad_begin : nowhere;
    x = tap % g.kernel - g.pad_begin;
  }

  __device__ __forceinline__ const T* at(int) const {
    const int in_y = walk.p * g.stride + y, in_x = walk.q * g.stride + x;
    const int doubled = g.upsample - 1;
    if (walk.left <= 0 || in_y < 0 || in_y >= g.h << doubled || in_x < 0 || in_x >= g.w << doubled)
      return nullptr;
    return from + ((std::int64_t{walk.n} * g.h + (in_y >> doubled)) * g.w + (in_x >> doubled)) * channels;
  }
  __device__ __forceinline__ void move(int by) { walk.move(g, by); }
};

// Columns of the product: output channels of dy.
template <class T>
struct GradientChannels {
  const T* from;  // at the pixel, or null beyond the last channel
  int cout;
  std::int64_t left;

  __device__ __forceinline__ GradientChannels(const Conv2dBackwardWeight<T>& p, int channel,
                                              std::int64_t pixel, std::int64_t end)
      : from(channel < p.shape.cout ? p.dy + pixel * p.shape.cout + channel : nullptr),
        cout(p.shape.cout),
        left(end - pixel) {}

  __device__ __forceinline__ const T* at(int) const { return left > 0 ? from : nullptr; }
  __device__ __forceinline__ void move(int by) {
    left -= by;
    if (from) from += std::int64_t{by} * cout;
  }
};

template <QuadAccess A, class P, class T>
__device__ __forceinline__ void add_gradient(const Conv2dBackwardWeightPart<T>& p, int first_row,
                                             int first_column, const TileSums<P>& sums) {
  const Conv2dGeometry& g = p.op.shape;
  const int rows = g.taps() * g.channels();
  float* const to = p.partial ? p.partial + std::int64_t{blockIdx.y} * g.cout * rows : p.op.dweight;
#pragma unroll
  for (int j = 0; j < P::thread_columns; ++j) {
    const int column = first_column + first_column_of_quad<P>(j / quad) + j % quad;
    if (column >= g.cout) continue;
#pragma unroll
    for (int i = 0; i < P::thread_rows; i += quad) {
      const int row = first_row + first_row_of_quad<P>(i / quad), count = min(quad, rows - row);
      float* const at = to + std::int64_t{column} * rows + row;
      float value[quad];
#pragma unroll
      for (int l = 0; l < quad; ++l) value[l] = sums[i + l][j];
      if (!p.partial) add_quad<A>(at, count, value);
      store_quad<A>(at, count, value);
    }
  }
}

template <class P, int Width, class T>
__global__ __launch_bounds__(P::threads) void conv2d_backward_weight_implicit_gemm_kernel(
    const __grid_constant__ Conv2dBackwardWeightPart<T> p) {
  using Taps = Staging<P, P::rows, Neighbours::across, Width, T>;
  using Gradients = Staging<P, P::columns, Neighbours::across, Width, T>;
  auto& shared = shared_memory<TileShared<P>>();
  const Conv2dGeometry& g = p.op.shape;
  const auto column_tiles = static_cast<unsigned>((g.cout + P::columns - 1) / P::columns);
  const int first_row = static_cast<int>(blockIdx.x / column_tiles) * P::rows;
  const int first_column = static_cast<int>(blockIdx.x % column_tiles) * P::columns;
  const std::int64_t first = std::int64_t{blockIdx.y} * p.pixels, end = min(first + p.pixels, g.pixels());
  const int column = static_cast<int>(threadIdx.x);
  const bool has_bias = p.op.dbias && first_row == 0 && column < P::columns;
  TileSums<P> sums = {};
  float bias = 0;
  for_each_slice<P, Taps, Gradients>(
      shared, TapPixels<T>(p.op, first_row + Taps::across(), PixelWalk::from(g, first + Taps::depth(), end)),
      GradientChannels<T>(p.op, first_column + Gradients::across(), first + Gradients::depth(), end),
      end - first, [&](const auto& taps, const auto& gradients) {
        multiply_slices<P>(taps, gradients, sums);
        if (has_bias)
          for (int pixel = 0; pixel < P::depth; ++pixel) bias += gradients[pixel][column];
      });
  if (has_bias) p.add_to_bias(first_column + column, bias);
  if (p.output == QuadAccess::vector)
    add_gradient<QuadAccess::vector, P>(p, first_row, first_column, sums);
  else
    add_gradient<QuadAccess::scalar, P>(p, first_row, first_column, sums);
}

// to += the sum of the parts, in their order; for the weight and then, where its count is not 0, the bias.
struct AdditionOfParts {
  struct Sum {
    const float* partial;  // [parts, count]
    std::int64_t count;
    float* to;  // [count]
  };
  Sum weight, bias;
  int parts;
};

template <class P>
__global__ __launch_bounds__(P::threads_of_addition) void add_parts_kernel(
    const __grid_constant__ AdditionOfParts p) {
  std::int64_t i = std::int64_t{blockIdx.x} * P::threads_of_addition + threadIdx.x;
  const bool is_weight = i < p.weight.count;
  const AdditionOfParts::Sum& own = is_weight ? p.weight : p.bias;
  if (!is_weight) i -= p.weight.count;
  if (i >= own.count) return;
  float sum = 0;
  for (int part = 0; part < p.parts; ++part) sum += own.partial[part * own.count + i];
  own.to[i] += sum;
}

// How many parts the pixels are cut into where the gradient has `tiles` tiles.
inline int parts_of_pixels(const GpuProperties& gpu, const Conv2dGeometry& g, std::int64_t tiles) {
  using Policy = Conv2dBackwardWeightPolicy;
  const std::int64_t parts =
      std::min<std::int64_t>(Policy::blocks * gpu.multiprocessors / tiles, g.pixels() / Policy::least_pixels);
  return static_cast<int>(std::max<std::int64_t>(parts, 1));
}

template <class P>
std::int64_t tiles_of_weight(const Conv2dGeometry& g) {
  return std::int64_t{blocks_for(g.taps() * g.channels(), P::rows)} * blocks_for(g.cout, P::columns);
}

// Calls start(part) for parts of whole slices of `depth` pixels, which must launch a kernel for all of them, and
// adds what they leave.
template <GpuLike D, class T, class Start>
void launch_in_parts(const D& device, const Conv2dBackwardWeight<T>& op, int parts, int depth, Start start) {
  using Policy = Conv2dBackwardWeightPolicy;
  const Conv2dGeometry& g = op.shape;
  const int rows = g.taps() * g.channels();
  const std::int64_t count = std::int64_t{g.cout} * rows, biases = op.dbias ? g.cout : 0;
  const std::int64_t slices = blocks_for(blocks_for(g.pixels(), parts), depth);
  Tensor<float, D> partial, partial_bias;
  if (parts > 1) {
    partial = Tensor<float, D>(device, {parts, count});
    partial_bias = Tensor<float, D>(device, {parts, biases});
  }
  start(Conv2dBackwardWeightPart<T>{op, slices * depth, partial.data(), partial_bias.data(),
                                    quad_access(rows, op.dweight)});
  if (parts == 1) return;
  launch_kernel(device, blocks_for(count + biases, Policy::threads_of_addition), Policy::threads_of_addition,
                add_parts_kernel<Policy>,
                {{partial.data(), count, op.dweight}, {partial_bias.data(), biases, op.dbias}, parts});
}

template <class P, GpuLike D, class T>
void launch_conv2d_backward_weight(const D& device, const Conv2dBackwardWeight<T>& op, int parts) {
  const Conv2dGeometry& g = op.shape;
  const bool is_vector =
      g.c2 % quad == 0 && g.cout % quad == 0 && quad_access(g.c, op.x, op.x2, op.dy) == QuadAccess::vector;
  launch_in_parts(device, op, parts, P::depth, [&](const Conv2dBackwardWeightPart<T>& p) {
    launch_kernel<TileShared<P>>(
        device, {static_cast<unsigned>(tiles_of_weight<P>(g)), static_cast<unsigned>(parts)}, P::threads,
        is_vector ? conv2d_backward_weight_implicit_gemm_kernel<P, quad, T>
                  : conv2d_backward_weight_implicit_gemm_kernel<P, 1, T>,
        p);
  });
}

}  // namespace ddpm::kernels
