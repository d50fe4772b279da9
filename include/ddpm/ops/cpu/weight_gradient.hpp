// SPDX-License-Identifier: MIT
// Direct weight gradient: the sum over pixels of dy times x, a matrix product with the pixels as the summed
// axis.
//
// A chunk of pixels is first copied into the order of the register tiles: read with the stride of an image,
// the same pixels would fall into few sets of the cache. With few input channels the roles change: the
// unrolled taps * C values of a pixel are broadcast against vectors of dy, which keeps the lanes full.
// Cost: the multiplications of the definition; bound by arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/conv2d.hpp>
#include <ddpm/ops/cpu/gemm.hpp>
#include <ddpm/ops/cpu/gradient_cells.hpp>
#include <ddpm/ops/cpu/image_window.hpp>

namespace ddpm::detail::cpu {

// to[pixel, i] = from[pixel, i], i < count, with zeros up to `height`, of pixels that lie `stride` apart.
struct ColumnCopy {
  const float* from;
  std::ptrdiff_t stride;
  int pixels, count, height;
  float* to;

  template <int height>
  static void run_constant(const ColumnCopy& p) {
    for (int pixel = 0; pixel < p.pixels; ++pixel)
      std::memcpy(p.to + pixel * height, p.from + pixel * p.stride, sizeof(float) * height);
  }
  // Constant sizes for full tiles, since a call of memcpy per pixel would cost more than the copy.
  void run() const {
    if (count == height) {
      if (height == 12) return run_constant<12>(*this);
      if (height == 8) return run_constant<8>(*this);
      if (height == 6) return run_constant<6>(*this);
      if (height == 4) return run_constant<4>(*this);
    }
    for (int pixel = 0; pixel < pixels; ++pixel)
      for (int i = 0; i < height; ++i) to[pixel * height + i] = i < count ? from[pixel * stride + i] : 0.0f;
  }
};

struct WeightGradientTuning {
  int pixels = 320;  // per chunk: the sums' way to the cache and back is paid by as many
  int tasks = 16;    // wanted
  GradientGroup group{48, 64}, group_of_1x1{144, 256};
};
constexpr WeightGradientTuning weight_gradient_tuning;

class WeightGradient {
 public:
  WeightGradient(const Conv2dGeometry& shape, const Images& x, const float* dy)
      : shape_(shape), x_(x), dy_(dy), unrolled_(shape.channels() < vector_width() / 2) {
    constexpr WeightGradientTuning t = weight_gradient_tuning;
    const int taps = shape.taps(), channels = shape.channels();
    const GradientGroup& group = taps == 1 ? t.group_of_1x1 : t.group;
    cells_ = unrolled_ ? GradientCells::of(taps * channels, shape.cout, 1, group)
                       : GradientCells::of(shape.cout, channels, taps, group);
    chunk_rows_ = std::clamp(t.pixels / shape.q, 1, shape.p);
    chunk_rows_ = ceil_div(shape.p, ceil_div(shape.p, chunk_rows_));
    chunk_images_ = chunk_rows_ < shape.p ? 1 : std::clamp(t.pixels / (shape.p * shape.q), 1, shape.n);
    row_chunks_ = ceil_div(shape.p, chunk_rows_);
    chunks_ = ceil_div(shape.n, chunk_images_) * row_chunks_;
    slices_ = std::min(chunks_, ceil_div(t.tasks, cells_.groups()));
  }

  // dweight += the gradient.
  void run(float* dweight) const {
    const std::int64_t channels = shape_.channels(), filter = shape_.taps() * channels;
    const GradientTarget target =
        unrolled_ ? GradientTarget{dweight, 1, 0, filter} : GradientTarget{dweight, filter, channels, 1};
    cells_.run(
        slices_, static_cast<double>(shape_.pixels()),
        [&](int slice, const GradientCells::Group& group, float* sums) { run_task(slice, group, sums); },
        [&](int block, int panel, const float* sums) {
          cells_.add(block, panel, cells_.matrices, cells_.total(block, panel, sums, slices_), target);
        });
  }

 private:
  struct RowsTag;
  struct ColumnsTag;
  struct UnrolledTag;
  struct WindowTag;

  // Pixels of one step: rows of consecutive images.
  struct Chunk {
    int n, images, row, rows;
  };

  Chunk chunk(int index) const {
    Chunk at{index / row_chunks_ * chunk_images_, chunk_images_, index % row_chunks_ * chunk_rows_,
             chunk_rows_};
    at.images = std::min(at.images, shape_.n - at.n);
    at.rows = std::min(at.rows, shape_.p - at.row);
    return at;
  }
  int pixels(const Chunk& at) const { return at.images * at.rows * shape_.q; }
  std::int64_t first_pixel(const Chunk& at) const {
    return (std::int64_t{at.n} * shape_.p + at.row) * shape_.q;
  }

  void run_task(int slice, const GradientCells::Group& group, float* sums) const {
    const auto first = static_cast<int>(std::int64_t{chunks_} * slice / slices_);
    const auto last = static_cast<int>(std::int64_t{chunks_} * (slice + 1) / slices_);
    for (int index = first; index < last; ++index) {
      const Chunk at = chunk(index);
      const float* a = copy_rows(at, group);
      for (int panel = group.panel; panel < group.panel_end; ++panel) {
        OuterProduct product = unrolled_ ? copy_dy(at, panel) : copy_x(at, panel);
        for (int block = group.block; block < group.block_end; ++block) {
          product.a = a + std::ptrdiff_t{block - group.block} * tile_rows() * pixels(at);
          product.height = cells_.height(block);
          product.a_step = product.height;
          product.sum = sums + cells_.cell(block, panel);
          product.is_first = index == first;
          outer_product(product, cells_.width(panel));
        }
      }
    }
  }

  // The broadcast operand: [block][pixel][height].
  float* copy_rows(const Chunk& at, const GradientCells::Group& group) const {
    const std::ptrdiff_t block_size = std::ptrdiff_t{tile_rows()} * pixels(at);
    float* to =
        thread_scratch<RowsTag>(static_cast<std::size_t>((group.block_end - group.block) * block_size));
    const float* from = unrolled_ ? unroll(at) : dy_ + first_pixel(at) * shape_.cout;
    for (int block = group.block; block < group.block_end; ++block) {
      const int first = block * tile_rows(), count = std::min(cells_.rows - first, tile_rows());
      ColumnCopy{from + first, cells_.rows,          pixels(at),
                 count,        cells_.height(block), to + (block - group.block) * block_size}
          .run();
    }
    return to;
  }

  Window window(const Chunk& at) const {
    return {at.n, at.row * shape_.stride - shape_.pad_begin, -shape_.pad_begin,
            (at.rows - 1) * shape_.stride + shape_.kernel, (shape_.q - 1) * shape_.stride + shape_.kernel};
  }

  // The vector operand of one panel, of x: a window that serves all taps.
  OuterProduct copy_x(const Chunk& at, int panel) const {
    const int first = panel * panel_width(), count = std::min(cells_.columns - first, panel_width());
    const int depth = cells_.width(panel), taps = shape_.taps();
    Window from = window(at);
    OuterProduct product{};
    product.image_stride = std::ptrdiff_t{from.rows} * from.columns * depth;
    product.line_stride = std::ptrdiff_t{shape_.stride} * from.columns * depth;
    product.step = std::ptrdiff_t{shape_.stride} * depth;
    const bool borderless = from.rows == at.rows && from.columns == shape_.q;  // all pixels are one line
    product.images = borderless ? 1 : at.images;
    product.lines = borderless ? 1 : at.rows;
    product.line_length = borderless ? pixels(at) : shape_.q;
    float* to = thread_scratch<ColumnsTag>(static_cast<std::size_t>(product.image_stride * at.images));
    product.b = to;
    for (int i = 0; i < at.images; ++i, ++from.n, to += product.image_stride)
      copy_window(x_, from, {first, count, depth}, to);
    int* offset = thread_scratch<ColumnsTag, int>(static_cast<std::size_t>(taps));
    for (int tap = 0; tap < taps; ++tap)
      offset[tap] = (tap / shape_.kernel * from.columns + tap % shape_.kernel) * depth;
    product.tap_offset = offset;
    product.taps = taps;
    return product;
  }

  // The vector operand of one panel, of dy.
  OuterProduct copy_dy(const Chunk& at, int panel) const {
    const int first = panel * panel_width(), count = std::min(cells_.columns - first, panel_width());
    const int depth = cells_.width(panel);
    const Images dy{dy_, nullptr, shape_.p, shape_.q, shape_.cout, 0, 1};
    const std::ptrdiff_t image = std::ptrdiff_t{at.rows} * shape_.q * depth;
    float* to = thread_scratch<ColumnsTag>(static_cast<std::size_t>(image * at.images));
    for (int i = 0; i < at.images; ++i)
      copy_window(dy, {at.n + i, at.row, 0, at.rows, shape_.q}, {first, count, depth}, to + i * image);
    OuterProduct product{};
    product.b = to;
    product.step = depth;
    product.images = product.lines = product.taps = 1;
    product.line_length = pixels(at);
    static constexpr int no_offset[1] = {0};
    product.tap_offset = no_offset;
    return product;
  }

  // [pixel][tap][channel]
  const float* unroll(const Chunk& at) const {
    Window from = window(at);
    const int c = shape_.channels(), k = shape_.kernel;
    float* copy = thread_scratch<WindowTag>(static_cast<std::size_t>(from.rows * from.columns * c));
    float* to = thread_scratch<UnrolledTag>(static_cast<std::size_t>(pixels(at) * cells_.rows));
    float* pixel = to;
    for (int i = 0; i < at.images; ++i, ++from.n) {
      copy_window(x_, from, {0, c, c}, copy);
      for (int row = 0; row < at.rows; ++row)
        for (int column = 0; column < shape_.q; ++column)
          for (int r = 0; r < k; ++r, pixel += k * c) {
            const int line = row * shape_.stride + r;
            std::copy_n(copy + (line * from.columns + column * shape_.stride) * c, k * c, pixel);
          }
    }
    return to;
  }

  Conv2dGeometry shape_;
  Images x_;
  const float* dy_;
  bool unrolled_;  // see the top of this file
  GradientCells cells_;
  int chunk_rows_, chunk_images_, row_chunks_, chunks_, slices_;
};

}  // namespace ddpm::detail::cpu
