// SPDX-License-Identifier: MIT
// Convolution of bf16, or of float rounded to TF32, forward and backward to the data, on tensor cores.
// Math and parameters: ddpm/ops/conv2d.hpp.
// Algorithm: the implicit GEMM of conv2d.cuh by mma.sync. Pixels and weights are copied by cp.async, several
// slices ahead, with zeros for the padding; the backward pass reads the weights transposed. The sums pass
// shared memory on their way out, where whole pixels are finished, and the moments of their channels are taken.
// Cost: the multiplications of the definition, of depths and channels rounded up to a tile; reads each input once
// per tap and tile of columns, mostly from L2.  Bound: mma.sync.
#pragma once

#include <algorithm>

#include <ddpm/kernels/block/conv2d_gather.cuh>
#include <ddpm/kernels/block/mma_tile.cuh>
#include <ddpm/kernels/channel_moments.cuh>
#include <ddpm/kernels/launch.cuh>

namespace ddpm::kernels {

struct Conv2dMmaPolicy {
  static constexpr int rows_at_once = 4;  // that a thread finishes
};

// The sums of a tile on their way out, and nothing of its stages any more.
template <class P>
struct MmaOutput {
  Pack<float, quad> value[P::rows][P::columns / quad];

  // Quads are permuted within their rows, so that neither pairs of four rows nor every other quad of one row meet
  // in a bank.
  __device__ __forceinline__ float* at(int row, int column) {
    const int i = column / quad;
    return value[row][i ^ row % 4 * 2 ^ i / 8 % 2].value + column % quad;
  }
  template <int N>
  __device__ __forceinline__ void load(int row, int column, float (&to)[N]) {
#pragma unroll
    for (int first = 0; first < N; first += quad) {
      const auto pack = Pack<float, quad>::load(at(row, column + first));
#pragma unroll
      for (int i = 0; i < quad; ++i) to[first + i] = pack[i];
    }
  }
  // As T keeps them.
  template <class T, int N>
  __device__ __forceinline__ void store_rounded(int row, int column, const float (&from)[N]) {
#pragma unroll
    for (int first = 0; first < N; first += quad) {
      Pack<float, quad> pack;
#pragma unroll
      for (int i = 0; i < quad; ++i) pack[i] = static_cast<float>(static_cast<T>(from[first + i]));
      pack.store(at(row, column + first));
    }
  }
};

template <class P, class G>
struct MmaGatherShared {
  using Pixels = MmaStaging<P, P::rows, Neighbours::depth>;
  using Weights = MmaStaging<P, P::columns, G::is_forward ? Neighbours::depth : Neighbours::across>;

  union {
    MmaStages<P, Pixels, Weights> stages;
    MmaOutput<P> output;
  };
  GatheredRows<P::rows> rows;
};

// Pixels of the source under the taps. What depends on the place along the depth alone is found once for all
// passes.
template <class Stage, class G>
class MmaPixels {
  using T = typename G::Element;
  static constexpr int chunk = chunk_of<T>;

 public:
  template <int Rows>
  __device__ __forceinline__ MmaPixels(const G& p, const GatheredRows<Rows>& rows, const TapWalk& start)
      : p_(p), walk_(start) {
#pragma unroll
    for (int pass = 0; pass < Stage::passes; ++pass) {
      const int row = Stage::across() + pass * Stage::across_span;
      y_[pass] = rows.written[row] < 0 ? nowhere : rows.y[row];
      x_[pass] = rows.x[row];
      pixel_[pass] = (rows.sample[row] * p.h + rows.y[row]) * p.w + rows.x[row];
    }
    move(Stage::depth());
  }

  __device__ __forceinline__ const T* at(int pass) const {
    const int y = y_[pass] + tap_y_, x = x_[pass] + tap_x_;
    const bool exists = static_cast<unsigned>(y) < static_cast<unsigned>(p_.h) &&
                        static_cast<unsigned>(x) < static_cast<unsigned>(p_.w);
    return exists ? from_ + std::int64_t{(pixel_[pass] + tap_pixel_) * chunks_} * chunk : nullptr;
  }

  __device__ __forceinline__ void move(int by) {
    walk_.move(by);
    const int tap_y = walk_.vertical.offset + p_.direction * walk_.i;
    tap_y_ = walk_.has_ended() ? nowhere : tap_y;
    tap_x_ = walk_.horizontal.offset + p_.direction * walk_.j;
    tap_pixel_ = tap_y * p_.w + tap_x_;
    const bool is_first = walk_.channel < p_.c;
    chunks_ = (is_first ? p_.c : p_.c2) / chunk;
    from_ = is_first ? p_.x + walk_.channel : p_.x2 + (walk_.channel - p_.c);
  }

 private:
  const G& p_;
  TapWalk walk_;
  int y_[Stage::passes], x_[Stage::passes], pixel_[Stage::passes];  // without the tap
  int tap_y_, tap_x_, tap_pixel_;
  const T* from_;  // the channel, in pixel 0 of its tensor
  int chunks_;     // of a pixel of that tensor
};

template <QuadAccess A, class P, class G>
__device__ __forceinline__ void write_mma_tile(const G& p, const GatheredRows<P::rows>& rows,
                                               MmaOutput<P>& output, int first_column, int thread) {
  using T = typename G::Element;
  constexpr int chunk = chunk_of<T>, row_threads = P::columns / chunk, row_span = P::threads / row_threads;
  constexpr int batch = A == QuadAccess::vector ? Conv2dMmaPolicy::rows_at_once : 1;
  const int column = thread % row_threads * chunk, channel = first_column + column;
  if (channel >= p.out_c) return;
  const int count = A == QuadAccess::vector ? chunk : min(chunk, p.out_c - channel);
  for (int first = thread / row_threads; first < P::rows; first += batch * row_span) {
    PixelChannels to[batch];
    float value[batch][chunk];
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      const int row = first + i * row_span;
      to[i] = {rows.written[row], rows.sample[row], channel, count};
      output.load(row, column, value[i]);
    }
    finish<A>(p.op, to, value);
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      const int row = first + i * row_span;
      if (rows.written[row] >= 0) write_pixel<A>(p.op, to[i], value[i]);
      if constexpr (G::is_forward)
        if (p.op.moments) output.template store_rounded<T>(row, column, value[i]);
    }
  }
}

template <class P, class G>
__device__ __forceinline__ void write_mma_tile(const G& p, const GatheredRows<P::rows>& rows,
                                               MmaOutput<P>& output, int first_column,
                                               int thread = static_cast<int>(threadIdx.x)) {
  if (p.output == QuadAccess::vector)
    write_mma_tile<QuadAccess::vector>(p, rows, output, first_column, thread);
  else
    write_mma_tile<QuadAccess::scalar>(p, rows, output, first_column, thread);
}

// Of the slabs of a tile, which has whole ones, see mma_gives_moments().
template <class P, class T>
__device__ __forceinline__ void write_moments(const Conv2dForward<T>& p, MmaOutput<P>& output,
                                              const GatherTile<P>& tile,
                                              int thread = static_cast<int>(threadIdx.x)) {
  const int slab = min(moments_slab, p.shape.p * p.shape.q);
  for (int i = thread; i < P::columns * (P::rows / slab); i += P::threads) {
    const int column = i % P::columns, channel = tile.first_column + column, first = i / P::columns * slab;
    const std::int64_t pixel = tile.first_pixel + first;
    if (pixel >= p.shape.pixels() || channel >= p.shape.cout) continue;
    float value[moments_slab], sum = 0, deviation = 0;
#pragma unroll
    for (int row = 0; row < moments_slab; ++row) {
      value[row] = row < slab ? *output.at(first + row, column) : 0;
      sum += value[row];
    }
    const float mean = sum / static_cast<float>(slab);
#pragma unroll
    for (int row = 0; row < moments_slab; ++row)
      if (row < slab) deviation += (value[row] - mean) * (value[row] - mean);
    p.moments[pixel / slab * p.shape.cout + channel] = {mean, deviation};
  }
}

template <class P, template <class> class Op>
__global__ __launch_bounds__(P::threads) void conv2d_mma_kernel(
    const __grid_constant__ Conv2dGather<Op, typename P::Element> p) {
  using T = typename P::Element;
  using G = Conv2dGather<Op, T>;
  using Shared = MmaGatherShared<P, G>;
  using Pixels = typename Shared::Pixels;
  using Weights = typename Shared::Weights;
  auto& shared = shared_memory<Shared>();
  const auto tile = GatherTile<P>::of_block(p);
  find_pixels(p, tile, shared.rows);
  __syncthreads();
  MmaSums<P> sums = {};
  for_each_phase(p, tile, [&](const TapWalk& start) {
    for_each_mma_slice<P, Pixels, Weights>(
        shared.stages, MmaPixels<Pixels, G>(p, shared.rows, start),
        GatheredWeights<Weights, G, T>(p, tile.first_column, start), start.depth(),
        [&](auto& a, auto& b) { multiply_mma_slices<P, Pixels, Weights>(a, b, sums); });
  });
  __syncthreads();  // others may be reading the stages
  for_each_row<P>(sums, [&](int row, int column, const MmaRow<P>& value) {
#pragma unroll
    for (int j = 0; j < P::warp_columns / 8; ++j) value[j].store(shared.output.at(row, column + 8 * j));
  });
  __syncthreads();
  write_mma_tile(p, shared.rows, shared.output, tile.first_column);
  if constexpr (G::is_forward) {
    if (!p.op.moments) return;
    __syncthreads();
    write_moments(p.op, shared.output, tile);
  }
}

// Whether chunks lie within the pixels of x and x2, chunks can be counted and coordinates are far from `nowhere`.
template <class T>
bool mma_takes(const Conv2dGeometry& g) {
  constexpr int chunk = chunk_of<T>;
  const auto can_count = [](std::int64_t pixels, int channels) {
    return pixels * std::max(channels / chunk, 1) <= -nowhere / 2;
  };
  return g.c % chunk == 0 && g.c2 % chunk == 0 && can_count(std::int64_t{g.n} * g.h * g.w, g.channels()) &&
         can_count(g.pixels(), g.cout);
}

template <class T>
bool supports_mma(const Conv2dForward<T>& p) {
  constexpr int chunk = chunk_of<T>;
  return mma_takes<T>(p.shape) && is_aligned<chunk>(p.x) && is_aligned<chunk>(p.x2) &&
         is_aligned<chunk>(p.weight);
}

template <class T>
bool supports_mma(const Conv2dBackwardData<T>& p) {
  constexpr int chunk = chunk_of<T>;
  return mma_takes<T>(p.shape) && p.shape.cout % chunk == 0 && is_aligned<chunk>(p.dy) &&
         is_aligned<chunk>(p.weight);
}

// Whether results leave in chunks.
template <class T>
bool stores_chunks(const Conv2dForward<T>& p) {
  constexpr int chunk = chunk_of<T>;
  return p.shape.cout % chunk == 0 && is_aligned<quad>(p.bias) && is_aligned<chunk>(p.add) &&
         is_aligned<chunk>(p.residual) && is_aligned<chunk>(p.y);
}

template <class T>
bool stores_chunks(const Conv2dBackwardData<T>& p) {
  return is_aligned<chunk_of<T>>(p.dx) && is_aligned<chunk_of<T>>(p.dx2) && is_aligned<chunk_of<T>>(p.add);
}

// Whether the forward kernel gives moments itself: its tiles must have whole slabs, of pixels in their order.
inline bool mma_gives_moments(const Conv2dGeometry& g) {
  const int hw = g.p * g.q;
  return g.upsample == 1 && (hw % moments_slab == 0 || moments_slab % hw == 0);
}

template <class P, GpuLike D, template <class> class Op>
void launch_conv2d_mma(const D& device, const Op<typename P::Element>& op) {
  using G = Conv2dGather<Op, typename P::Element>;
  G p = gather_of(op);
  p.output = stores_chunks(op) ? QuadAccess::vector : QuadAccess::scalar;
  bool lacks_moments = false;
  if constexpr (G::is_forward) {
    lacks_moments = op.moments && !mma_gives_moments(op.shape);
    if (lacks_moments) p.op.moments = nullptr;
  }
  static_assert(sizeof(MmaGatherShared<P, G>) <= P::shared_limit);
  launch_kernel<MmaGatherShared<P, G>>(device, gather_grid<P>(p), P::threads, conv2d_mma_kernel<P, Op>, p);
  if constexpr (G::is_forward)
    if (lacks_moments) launch_channel_moments(device, op);
}

}  // namespace ddpm::kernels
