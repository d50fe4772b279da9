// SPDX-License-Identifier: MIT
// What the implicit GEMMs of conv2d.cuh and conv2d_mma.cuh share: which pixel and weight each element of the
// product is, and what is done to a result on its way out.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include <ddpm/kernels/block/quad.cuh>
#include <ddpm/kernels/launch.cuh>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm::kernels {

// What both passes are. Along each axis, coordinate residue + classes * i of the written image reads
// coordinate offset + step * i + direction * j of the source through tap `tap + classes * j`; each of the
// `phases` has its own offset and tap, see tap_run().
template <template <class> class Op, class T>
struct Conv2dGather {
  using Element = T;
  static constexpr bool is_forward = std::is_same_v<Op<T>, Conv2dForward<T>>;

  Op<T> op;
  const T *x, *x2;  // source: [N, H, W, C] and [N, H, W, C2]
  int n, h, w, c, c2;
  int out_h, out_w, out_c;
  int kernel, classes, step, phases;
  int origin, direction;
  QuadAccess output;

  DDPM_HOST_DEVICE int channels() const { return c + c2; }
  // Of the pixels of a class, where all have as many.
  int class_h() const { return out_h / classes; }
  int class_w() const { return out_w / classes; }
};

template <class T>
Conv2dGather<Conv2dForward, T> gather_of(const Conv2dForward<T>& op) {
  const Conv2dGeometry& s = op.shape;
  return {.op = op,
          .x = op.x,
          .x2 = op.x2,
          .n = s.n,
          .h = s.h,
          .w = s.w,
          .c = s.c,
          .c2 = s.c2,
          .out_h = s.p,
          .out_w = s.q,
          .out_c = s.cout,
          .kernel = s.kernel,
          .classes = s.upsample,
          .step = s.stride,
          .phases = s.upsample,
          .origin = -s.pad_begin,
          .direction = 1,
          .output = quad_access(s.cout, op.bias, op.add, op.residual, op.y)};
}

template <class T>
Conv2dGather<Conv2dBackwardData, T> gather_of(const Conv2dBackwardData<T>& op) {
  const Conv2dGeometry& s = op.shape;
  return {.op = op,
          .x = op.dy,
          .x2 = nullptr,
          .n = s.n,
          .h = s.p,
          .w = s.q,
          .c = s.cout,
          .c2 = 0,
          .out_h = s.h,
          .out_w = s.w,
          .out_c = s.channels(),
          .kernel = s.kernel,
          .classes = s.stride,
          .step = s.upsample,
          .phases = s.upsample,
          .origin = s.pad_begin,
          .direction = -1,
          .output = s.c2 % quad == 0 ? quad_access(s.c, op.dx, op.dx2, op.add) : QuadAccess::scalar};
}

// The taps of one class and phase along one axis.
struct TapRun {
  int tap, offset, count;
};

template <class G>
__device__ __forceinline__ TapRun tap_run(const G& p, int residue, int phase) {
  const int position = residue * p.step + p.origin + phase;
  const int offset = (position < 0 ? position - p.classes + 1 : position) / p.classes;
  const int tap = p.direction > 0 ? phase : position - offset * p.classes;
  return {tap, offset, tap < p.kernel ? (p.kernel - tap + p.classes - 1) / p.classes : 0};
}

// A place along the depth: two taps and a channel, channels fastest.
struct TapWalk {
  TapRun vertical, horizontal;
  int channels;
  int i = 0, j = 0, channel = 0;

  __device__ __forceinline__ int depth() const { return vertical.count * horizontal.count * channels; }
  __device__ __forceinline__ bool has_ended() const { return i >= vertical.count; }
  __device__ __forceinline__ void move(int by) {
    for (channel += by; channel >= channels; channel -= channels)
      if (++j == horizontal.count) {
        j = 0;
        ++i;
      }
  }
};

// The pixels of a tile.
template <int Rows>
struct GatheredRows {
  std::int64_t written[Rows];  // number of the pixel in the written image, or -1
  int sample[Rows];
  int y[Rows], x[Rows];  // in the source, without the offset of a phase
};

// The tile of a block. Along x, tiles of columns before tiles of pixels; y and z are the class.
template <class P>
struct GatherTile {
  int first_column;
  std::int64_t first_pixel;  // of the class
  int residue_y, residue_x;
  int h, w;  // pixels of the class in a sample

  template <class G>
  __device__ __forceinline__ static GatherTile of_block(const G& p) {
    return at(p, blockIdx.x, static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.z));
  }
  template <class G>
  __device__ __forceinline__ static GatherTile at(const G& p, unsigned i, int residue_y, int residue_x) {
    const unsigned column_tiles = (p.out_c + P::columns - 1u) / P::columns;
    return {static_cast<int>(i % column_tiles) * P::columns,
            std::int64_t{i / column_tiles} * P::rows,
            residue_y,
            residue_x,
            (p.out_h - residue_y + p.classes - 1) / p.classes,
            (p.out_w - residue_x + p.classes - 1) / p.classes};
  }
};

// By P::threads threads, as what else takes `thread`.
template <class P, class G>
__device__ __forceinline__ void find_pixels(const G& p, const GatherTile<P>& tile,
                                            GatheredRows<P::rows>& rows,
                                            int thread = static_cast<int>(threadIdx.x)) {
  const std::int64_t of_sample = std::int64_t{tile.h} * tile.w;
  for (int row = thread; row < P::rows; row += P::threads) {
    const std::int64_t pixel = tile.first_pixel + row;
    const bool exists = pixel < p.n * of_sample;
    const int sample = exists ? static_cast<int>(pixel / of_sample) : 0;
    const auto in_sample = static_cast<int>(pixel % of_sample);
    const int y = in_sample / tile.w, x = in_sample % tile.w;
    const std::int64_t line = std::int64_t{sample} * p.out_h + tile.residue_y + y * p.classes;
    rows.written[row] = exists ? line * p.out_w + tile.residue_x + x * p.classes : -1;
    rows.sample[row] = sample;
    rows.y[row] = y * p.step;
    rows.x[row] = x * p.step;
  }
}

// Calls use(start) for the taps of each phase.
template <class P, class G, class Use>
__device__ __forceinline__ void for_each_phase(const G& p, const GatherTile<P>& tile, Use use) {
  for (int y = 0; y < p.phases; ++y)
    for (int x = 0; x < p.phases; ++x)
      use(TapWalk{tap_run(p, tile.residue_y, y), tap_run(p, tile.residue_x, x), p.channels()});
}

template <class P, class G>
dim3 gather_grid(const G& p) {
  const std::int64_t of_class =
      std::int64_t{p.n} * ((p.out_h + p.classes - 1) / p.classes) * ((p.out_w + p.classes - 1) / p.classes);
  return {blocks_for(p.out_c, P::columns) * blocks_for(of_class, P::rows),
          static_cast<unsigned>(std::min(p.classes, p.out_h)),
          static_cast<unsigned>(std::min(p.classes, p.out_w))};
}

// The weights of the taps. They are neighbours along the channels of the convolution's input: along the depth
// of a forward pass, across the columns of a backward one.
template <class Stage, class G, class T>
class GatheredWeights {
 public:
  __device__ __forceinline__ GatheredWeights(const G& p, int first_column, const TapWalk& start)
      : p_(p), walk_(start), column_(first_column + Stage::across()) {
    move(Stage::depth());
  }

  __device__ __forceinline__ const T* at(int pass) const {
    const int columns = pass * Stage::across_span;
    if (walk_.has_ended() || column_ + columns >= p_.out_c) return nullptr;
    return from_ + columns * std::int64_t{G::is_forward ? p_.kernel * p_.kernel * p_.channels() : 1};
  }

  __device__ __forceinline__ void move(int by) {
    walk_.move(by);
    const int tap =
        (walk_.vertical.tap + walk_.i * p_.classes) * p_.kernel + walk_.horizontal.tap + walk_.j * p_.classes;
    const int out = G::is_forward ? column_ : walk_.channel, in = G::is_forward ? walk_.channel : column_;
    from_ = p_.op.weight + std::int64_t{out * p_.kernel * p_.kernel + tap} * p_.op.shape.channels() + in;
  }

 private:
  const G& p_;
  TapWalk walk_;
  int column_;
  const T* from_;  // of pass 0
};

// Neighbouring channels of one written pixel.
struct PixelChannels {
  std::int64_t pixel;  // or -1, whose results nobody wants
  int sample, channel, count;
};

// What a pass does to results before it stores them. Several pixels at once, so that loads overlap.
template <QuadAccess A, class T, int Pixels, int N>
__device__ __forceinline__ void finish(const Conv2dForward<T>& p, const PixelChannels (&to)[Pixels],
                                       float (&value)[Pixels][N]) {
  const auto add_each = [&](auto operand) {
#pragma unroll
    for (int i = 0; i < Pixels; ++i)
      add_quad<A, CacheHint::read_only>(operand(to[i]) + to[i].channel, to[i].count, value[i]);
  };
  const int cout = p.shape.cout;
  if (p.bias) add_each([&](const PixelChannels&) { return p.bias; });
  if (p.add) add_each([&](const PixelChannels& at) { return p.add + std::int64_t{at.sample} * cout; });
  if (p.residual)
    add_each([&](const PixelChannels& at) { return p.residual + max(at.pixel, std::int64_t{0}) * cout; });
#pragma unroll
  for (int i = 0; i < Pixels; ++i)
#pragma unroll
    for (int l = 0; l < N; ++l) value[i][l] *= p.scale;
}

// Of pixels that exist alone: `add` may be dx, which others are writing.
template <QuadAccess A, class T, int Pixels, int N>
__device__ __forceinline__ void finish(const Conv2dBackwardData<T>& p, const PixelChannels (&to)[Pixels],
                                       float (&value)[Pixels][N]) {
  if (!p.add) return;
#pragma unroll
  for (int i = 0; i < Pixels; ++i)
    if (to[i].pixel >= 0)
      add_quad<A, CacheHint::stream>(p.add + to[i].pixel * p.shape.c + to[i].channel, to[i].count, value[i]);
}

template <QuadAccess A, class T, int N>
__device__ __forceinline__ void write_pixel(const Conv2dForward<T>& p, const PixelChannels& to,
                                            const float (&value)[N]) {
  store_quad<A>(p.y + to.pixel * p.shape.cout + to.channel, to.count, value);
}

template <QuadAccess A, class T, int N>
__device__ __forceinline__ void write_pixel(const Conv2dBackwardData<T>& p, const PixelChannels& to,
                                            const float (&value)[N]) {
  const int c = p.shape.c, c2 = p.shape.c2;
  const auto at = [&](int channel) {
    return channel < c ? p.dx + to.pixel * c + channel : p.dx2 + to.pixel * c2 + (channel - c);
  };
  if constexpr (A == QuadAccess::vector) {
    store_quad<A>(at(to.channel), to.count, value);
  } else {
    for (int i = 0; i < N; ++i)
      if (i < to.count) *at(to.channel + i) = static_cast<T>(value[i]);
  }
}

}  // namespace ddpm::kernels
