// SPDX-License-Identifier: MIT
// Convolution, forward and backward to the data, in float arithmetic; and which kernels an op is computed by.
// Math and parameters: ddpm/ops/conv2d.hpp.
// Algorithm: implicit GEMM. Rows are the pixels written, columns their channels, the depth is taps times
// channels read. Where pixels differ in the taps they read (forward with upsampling, backward with a stride)
// a block owns pixels of one class, all with the same taps: no product is with a zero in between, and the
// loop over the depth divides nothing.
// Cost: the multiplications of the definition; reads each input once per tap and tile of columns, mostly from
// L1 and L2.  Bound: FFMA.
#pragma once

#include <type_traits>

#include <ddpm/kernels/block/conv2d_gather.cuh>
#include <ddpm/kernels/block/tile.cuh>
#include <ddpm/kernels/channel_moments.cuh>
#include <ddpm/kernels/conv2d_backward_weight.cuh>
#include <ddpm/kernels/conv2d_mma.cuh>
#include <ddpm/kernels/conv2d_mma_backward_weight.cuh>
#include <ddpm/kernels/conv2d_wgmma.cuh>
#include <ddpm/kernels/conv2d_wgmma_backward_weight.cuh>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm::kernels {

template <class P>
struct GatherShared {
  TileShared<P> tile;
  GatheredRows<P::rows> rows;
};

// Pixels of the source under the taps.
template <class P, class Stage, class G, class T>
struct GatheredPixels {
  const G& p;
  const GatheredRows<P::rows>& rows;
  TapWalk walk;

  __device__ __forceinline__ const T* at(int pass) const {
    const int row = Stage::across() + pass * Stage::across_span;
    const int y = rows.y[row] + walk.vertical.offset + p.direction * walk.i;
    const int x = rows.x[row] + walk.horizontal.offset + p.direction * walk.j;
    if (walk.has_ended() || y < 0 || y >= p.h || x < 0 || x >= p.w) return nullptr;
    const std::int64_t pixel = (std::int64_t{rows.sample[row]} * p.h + y) * p.w + x;
    return walk.channel < p.c ? p.x + pixel * p.c + walk.channel : p.x2 + pixel * p.c2 + (walk.channel - p.c);
  }
  __device__ __forceinline__ void move(int by) { walk.move(by); }
};

template <QuadAccess A, class P, class G>
__device__ __forceinline__ void write_tile(const G& p, const GatheredRows<P::rows>& rows, int first_column,
                                           const TileSums<P>& sums) {
#pragma unroll
  for (int i = 0; i < P::thread_rows; ++i) {
    const int row = first_row_of_quad<P>(i / quad) + i % quad;
    if (rows.written[row] < 0) continue;
#pragma unroll
    for (int j = 0; j < P::thread_columns; j += quad) {
      const int channel = first_column + first_column_of_quad<P>(j / quad);
      float value[1][quad];
#pragma unroll
      for (int l = 0; l < quad; ++l) value[0][l] = sums[i][j + l];
      const PixelChannels to[1] = {
          {rows.written[row], rows.sample[row], channel, min(quad, p.out_c - channel)}};
      finish<A>(p.op, to, value);
      write_pixel<A>(p.op, to[0], value[0]);
    }
  }
}

template <class P, int Width, template <class> class Op, class T>
__global__ __launch_bounds__(P::threads) void conv2d_implicit_gemm_kernel(
    const __grid_constant__ Conv2dGather<Op, T> p) {
  using G = Conv2dGather<Op, T>;
  using Pixels = Staging<P, P::rows, Neighbours::depth, Width, T>;
  using Weights = Staging<P, P::columns, G::is_forward ? Neighbours::depth : Neighbours::across, Width, T>;
  auto& shared = shared_memory<GatherShared<P>>();
  const auto tile = GatherTile<P>::of_block(p);
  find_pixels(p, tile, shared.rows);
  __syncthreads();
  TileSums<P> sums = {};
  for_each_phase(p, tile, [&](const TapWalk& start) {
    TapWalk pixels = start;
    pixels.move(Pixels::depth());
    for_each_slice<P, Pixels, Weights>(shared.tile, GatheredPixels<P, Pixels, G, T>{p, shared.rows, pixels},
                                       GatheredWeights<Weights, G, T>(p, tile.first_column, start),
                                       start.depth(),
                                       [&](const auto& a, const auto& b) { multiply_slices<P>(a, b, sums); });
  });
  if (p.output == QuadAccess::vector)
    write_tile<QuadAccess::vector, P>(p, shared.rows, tile.first_column, sums);
  else
    write_tile<QuadAccess::scalar, P>(p, shared.rows, tile.first_column, sums);
}

template <class P, GpuLike D, template <class> class Op, class T>
void launch_conv2d_implicit_gemm(const D& device, const Op<T>& op) {
  const auto p = gather_of(op);
  const bool is_vector = p.c2 % quad == 0 && op.shape.channels() % quad == 0 &&
                         quad_access(p.c, p.x, p.x2, op.weight) == QuadAccess::vector;
  launch_kernel<GatherShared<P>>(
      device, gather_grid<P>(p), P::threads,
      is_vector ? conv2d_implicit_gemm_kernel<P, quad, Op, T> : conv2d_implicit_gemm_kernel<P, 1, Op, T>, p);
  if constexpr (Conv2dGather<Op, T>::is_forward)
    if (op.moments) launch_channel_moments(device, op);
}

}  // namespace ddpm::kernels

namespace ddpm {

// `automatic` is the fastest that takes the operands; `mma` takes those of supports_mma(), float only where the device
// says FloatProducts::tf32; `wgmma` takes those of supports_wgmma().
enum class Conv2dAlgorithm { automatic, general, mma, wgmma };

namespace kernels {

// Whether tensor cores may multiply elements of T.
template <class T, GpuLike D>
bool has_mma(const D& device) {
  return std::is_same_v<T, bf16> || device.properties().float_products == FloatProducts::tf32;
}

// Whether the tensor cores compute p.
template <GpuLike D, template <class> class Op, class T>
bool uses_mma(const D& device, const Op<T>& p, Conv2dAlgorithm algorithm) {
  const bool is_for_wgmma = algorithm == Conv2dAlgorithm::wgmma;
  const bool is_asked_for = is_for_wgmma || algorithm == Conv2dAlgorithm::mma;
  const bool is_supported =
      supports_mma(p) && has_mma<T>(device) && (std::is_same_v<T, bf16> || !is_for_wgmma);
  check<ConfigError>(
      !is_asked_for || is_supported,
      "conv2d: tensor cores need bf16, or float on a device with FloatProducts::tf32 and by no "
      "wgmma, channels in multiples of ",
      chunk_of<T>, " and tensors aligned to 16 bytes, found ",
      has_mma<T>(device) ? "" : "FloatProducts::exact, ", sizeof(T), " bytes per element, ", p.shape.c, " + ",
      p.shape.c2, " channels and ", p.shape.cout, " outputs");
  return is_supported && algorithm != Conv2dAlgorithm::general;
}

// Whether wgmma computes p, which tensor cores do.
template <GpuLike D, template <class> class Op>
bool uses_wgmma(const D& device, const Op<bf16>& p, Conv2dAlgorithm algorithm, bool is_faster) {
  const Conv2dGeometry& g = p.shape;
  const bool is_supported = supports_wgmma(device, p), is_asked_for = algorithm == Conv2dAlgorithm::wgmma;
  check<ConfigError>(
      !is_asked_for || is_supported,
      "conv2d: wgmma needs code for sm_90a on a GPU of compute capability 9.0, a stride of 1, channels read "
      "in multiples of 64 and images that supports_wgmma() cuts into tiles, found capability ",
      device.properties().capability, ", ", g.c, " + ", g.c2, " channels, ", g.cout, " outputs, x of ", g.h,
      " x ", g.w, " and y of ", g.p, " x ", g.q, " pixels");
  return is_asked_for || (is_supported && is_faster && algorithm == Conv2dAlgorithm::automatic);
}

template <GpuLike D, template <class> class Op, class T>
void launch_conv2d_on_tensor_cores(const D& device, const Op<T>& op, Conv2dAlgorithm algorithm) {
  const Conv2dGather<Op, T> p = gather_of(op);
  const GpuProperties gpu = device.properties();
  const MmaProduct product{std::int64_t{p.n} * p.out_h * p.out_w, p.out_c, size_of(MmaTile::small).depth};
  const MmaChoice mma{choose_mma_tile(gpu, product.rows, product.columns), 1};
  if constexpr (std::is_same_v<T, bf16>) {
    const WgmmaChoice wgmma{choose_wgmma_tile(gpu, product, p.class_h(), p.class_w()), 1};
    if (uses_wgmma(device, op, algorithm, time_of(gpu, product, wgmma) < time_of(gpu, product, mma)))
      return with_wgmma_tile(
          wgmma.tile, [&]<class Tile>(Tile) { launch_conv2d_wgmma<Tile>(device, op, gpu.multiprocessors); });
  }
  with_mma_tile<T>(mma.tile, [&]<class Tile>(Tile) { launch_conv2d_mma<Tile>(device, op); });
}

template <GpuLike D, class T>
void launch_conv2d_on_tensor_cores(const D& device, const Conv2dBackwardWeight<T>& op,
                                   Conv2dAlgorithm algorithm) {
  const GpuProperties gpu = device.properties();
  const MmaChoice mma = choose_mma_weight(gpu, op.shape);
  if constexpr (std::is_same_v<T, bf16>) {
    const WgmmaChoice wgmma = choose_wgmma_weight(gpu, op.shape);
    if (uses_wgmma(device, op, algorithm,
                   time_of(gpu, wgmma_weight_product(op.shape), wgmma) <
                       time_of(gpu, weight_product(op.shape), mma)))
      return with_wgmma_weight_tile(wgmma.tile, [&]<class Tile>(Tile) {
        launch_conv2d_backward_weight_wgmma<Tile>(device, op, wgmma.parts);
      });
  }
  with_mma_weight_tile<T>(
      mma.tile, [&]<class Tile>(Tile) { launch_conv2d_backward_weight_mma<Tile>(device, op, mma.parts); });
}

template <GpuLike D, template <class> class Op, class T>
void launch_conv2d_gather(const D& device, const Op<T>& op, Conv2dAlgorithm algorithm) {
  if (uses_mma(device, op, algorithm)) return launch_conv2d_on_tensor_cores(device, op, algorithm);
  with_tile(gather_of(op).out_c, [&]<class Tile>(Tile) { launch_conv2d_implicit_gemm<Tile>(device, op); });
}

}  // namespace kernels

template <class T, GpuLike D>
bool conv2d_gives_moments(const D& device, const Conv2dGeometry& g) {
  return kernels::mma_takes<T>(g) && kernels::mma_gives_moments(g) && kernels::has_mma<T>(device);
}

template <GpuLike D, class T>
void launch(const D& device, const Conv2dForward<T>& p,
            Conv2dAlgorithm algorithm = Conv2dAlgorithm::automatic) {
  kernels::launch_conv2d_gather(device, p, algorithm);
}

template <GpuLike D, class T>
void launch(const D& device, const Conv2dBackwardData<T>& p,
            Conv2dAlgorithm algorithm = Conv2dAlgorithm::automatic) {
  kernels::launch_conv2d_gather(device, p, algorithm);
}

template <GpuLike D, class T>
void launch(const D& device, const Conv2dBackwardWeight<T>& p,
            Conv2dAlgorithm algorithm = Conv2dAlgorithm::automatic) {
  using namespace kernels;
  if (uses_mma(device, p, algorithm)) return launch_conv2d_on_tensor_cores(device, p, algorithm);
  with_tile(p.shape.cout, [&]<class Tile>(Tile) {
    const std::int64_t tiles = tiles_of_weight<Tile>(p.shape);
    launch_conv2d_backward_weight<Tile>(device, p, parts_of_pixels(device.properties(), p.shape, tiles));
  });
}

// These kernels read weights as they are.
template <GpuLike D, class T>
void launch(const D&, const Conv2dPrepare<T>&) {}

}  // namespace ddpm
