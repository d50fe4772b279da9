// SPDX-License-Identifier: MIT
// Direct weight gradient: the sum over pixels of dy times x, a matrix product with the pixels as the summed
// axis.
//
// Task (slice, group) sums its slice of the pixels for its group of the gradient into cells of its own, one
// cell per register tile and all taps; the slices are then added in order, so nothing depends on threads. A
// chunk of pixels is first copied into the order of the tiles: read with the stride of an image, the same
// pixels would fall into few sets of the cache. With few input channels the roles change: the unrolled
// taps * C values of a pixel are broadcast against vectors of dy, which keeps the lanes full.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ddpm/core/parallel.hpp>
#include <ddpm/core/tensor.hpp>
#include <ddpm/ops/conv2d.hpp>
#include <ddpm/ops/cpu/gemm.hpp>
#include <ddpm/ops/cpu/image_window.hpp>

namespace ddpm::detail::cpu {

// to += the sum of `slices` arrays, each `stride` after the one before.
struct SliceSum {
  const float* from;
  std::ptrdiff_t stride;
  int slices;
  float* to;
  std::int64_t count;  // a multiple of every vector width

  template <class V>
  [[gnu::always_inline]] static void run(const SliceSum& p) {
    for (std::int64_t i = 0; i < p.count; i += V::width) {
      typename V::type sum = vector_at<V>(p.from + i);
      for (int slice = 1; slice < p.slices; ++slice) sum += vector_at<V>(p.from + slice * p.stride + i);
      vector_at<V>(p.to + i) = sum;
    }
  }
};

// to[pixel, i] = from[pixel, i], i < height, of pixels that lie `stride` apart.
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
  // Constant sizes, since a call of memcpy per pixel would cost more than the copy.
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
  int pixels = 320;      // per chunk: the sums' way to the cache and back is paid by as many
  int tasks = 16;        // wanted
  int group_rows = 128;  // of A and
  int group_columns = 64;  // of B per task: what is copied is used by as many
};
constexpr WeightGradientTuning weight_gradient_tuning;

class WeightGradient {
 public:
  // dweight += the gradient of `shape`.
  WeightGradient(const Conv2dGeometry& shape, const Images& x, const float* dy)
      : shape_(shape), x_(x), dy_(dy), unrolled_(shape.channels() < vector_width() / 2) {
    constexpr WeightGradientTuning t = weight_gradient_tuning;
    rows_ = unrolled_ ? shape.taps() * shape.channels() : shape.cout;
    columns_ = unrolled_ ? shape.cout : shape.channels();
    taps_ = unrolled_ ? 1 : shape.taps();
    blocks_ = ceil_div(rows_, tile_rows());
    panels_ = ceil_div(columns_, panel_width());
    block_group_ = std::min(blocks_, ceil_div(t.group_rows, tile_rows()));
    panel_group_ = std::min(panels_, ceil_div(t.group_columns, panel_width()));
    chunk_rows_ = std::clamp(t.pixels / shape.q, 1, shape.p);
    chunk_rows_ = ceil_div(shape.p, ceil_div(shape.p, chunk_rows_));
    chunk_images_ = chunk_rows_ < shape.p ? 1 : std::clamp(t.pixels / (shape.p * shape.q), 1, shape.n);
    row_chunks_ = ceil_div(shape.p, chunk_rows_);
    chunks_ = ceil_div(shape.n, chunk_images_) * row_chunks_;
    slices_ = std::min(chunks_, ceil_div(t.tasks, groups()));
  }

  void run(float* dweight) const {
    const Tensor<float, Cpu> sums(Cpu{}, {slices_, slice_size()});
    parallel_for(std::int64_t{slices_} * groups(), [&](std::int64_t task) {
      const auto slice = static_cast<int>(task / groups()), group = static_cast<int>(task % groups());
      float* to = sums.data() + slice * slice_size();
      run_task(slice, group, to);
    });
    parallel_for(blocks_, [&](std::int64_t block) {
      for (int panel = 0; panel < panels_; ++panel)
        add_cell(static_cast<int>(block), panel, sums.data(), dweight);
    });
  }

 private:
  struct RowsTag;
  struct ColumnsTag;
  struct UnrolledTag;
  struct CellTag;

  // Pixels of one step: rows of consecutive images.
  struct Chunk {
    int n, images, row, rows;
  };

  int groups() const { return ceil_div(blocks_, block_group_) * ceil_div(panels_, panel_group_); }
  std::int64_t cell_size() const { return std::int64_t{taps_} * tile_rows() * panel_width(); }
  std::int64_t slice_size() const { return cell_size() * blocks_ * panels_; }
  std::int64_t cell(int block, int panel) const {
    return (std::int64_t{block} * panels_ + panel) * cell_size();
  }
  int height(int block) const { return tile_height(rows_ - block * tile_rows()); }
  int width(int panel) const {
    return columns_ - panel * panel_width() > vector_width() ? panel_width() : vector_width();
  }

  Chunk chunk(int index) const {
    Chunk at{index / row_chunks_ * chunk_images_, chunk_images_, index % row_chunks_ * chunk_rows_, chunk_rows_};
    at.images = std::min(at.images, shape_.n - at.n);
    at.rows = std::min(at.rows, shape_.p - at.row);
    return at;
  }

  void run_task(int slice, int group, float* sums) const {
    const int panel_groups = ceil_div(panels_, panel_group_);
    const int block = group / panel_groups * block_group_, block_end = std::min(blocks_, block + block_group_);
    const int panel = group % panel_groups * panel_group_, panel_end = std::min(panels_, panel + panel_group_);
    for (int i = block; i < block_end; ++i) fill_zero(sums + cell(i, panel), (panel_end - panel) * cell_size());
    const auto first = static_cast<int>(std::int64_t{chunks_} * slice / slices_);
    const auto last = static_cast<int>(std::int64_t{chunks_} * (slice + 1) / slices_);
    for (int index = first; index < last; ++index) {
      const Chunk at = chunk(index);
      const int pixels = at.images * at.rows * shape_.q;
      const float* a = copy_rows(at, block, block_end);
      for (int j = panel; j < panel_end; ++j) {
        OuterProduct product = copy_columns(at, j);
        for (int i = block; i < block_end; ++i) {
          product.a = a + std::ptrdiff_t{i - block} * tile_rows() * pixels;
          product.height = height(i);
          product.sum = sums + cell(i, j);
          outer_product(product, width(j));
        }
      }
    }
  }

  // The broadcast operand: [block][pixel][height].
  float* copy_rows(const Chunk& at, int block, int block_end) const {
    const int pixels = at.images * at.rows * shape_.q;
    float* to = thread_scratch<RowsTag>(static_cast<std::size_t>(block_end - block) *
                                        static_cast<unsigned>(tile_rows() * pixels));
    const float* from = unrolled_ ? unroll(at) : dy_ + first_pixel(at) * shape_.cout;
    for (int i = block; i < block_end; ++i) {
      const int first = i * tile_rows();
      ColumnCopy{from + first, rows_,     pixels, std::min(rows_ - first, tile_rows()),
                 height(i), to + std::ptrdiff_t{i - block} * tile_rows() * pixels}
          .run();
    }
    return to;
  }

  std::int64_t first_pixel(const Chunk& at) const {
    return (std::int64_t{at.n} * shape_.p + at.row) * shape_.q;
  }

  Window window(const Chunk& at) const {
    return {at.n, at.row * shape_.stride - shape_.pad_begin, -shape_.pad_begin,
            (at.rows - 1) * shape_.stride + shape_.kernel, (shape_.q - 1) * shape_.stride + shape_.kernel};
  }

  // The vector operand of one panel.
  OuterProduct copy_columns(const Chunk& at, int panel) const {
    const int first = panel * panel_width(), count = std::min(columns_ - first, panel_width());
    OuterProduct product{};
    product.images = at.images;
    product.lines = at.rows;
    product.line_length = shape_.q;
    product.taps = taps_;
    const std::ptrdiff_t depth = width(panel);
    if (unrolled_) {
      const int pixels = at.images * at.rows * shape_.q;
      const Images dy{dy_, nullptr, pixels, 1, shape_.cout, 0, 1};
      float* to = thread_scratch<ColumnsTag>(static_cast<std::size_t>(pixels * depth));
      for (int i = 0; i < pixels; ++i) {
        dy.copy_pixel(first_pixel(at) + i, first, count, to + i * depth);
        fill_zero(to + i * depth + count, depth - count);
      }
      static constexpr int no_offset[1] = {0};
      product.tap_offset = no_offset;
      product.b = to;
      product.step = depth;
      product.line_stride = shape_.q * depth;
      product.image_stride = at.rows * product.line_stride;
      return product;
    }
    Window from = window(at);
    if (from.rows == at.rows && from.columns == shape_.q) {  // no borders: all pixels are one line
      product.line_length *= at.images * at.rows;
      product.images = product.lines = 1;
    }
    product.image_stride = from.rows * from.columns * depth;
    float* to = thread_scratch<ColumnsTag>(static_cast<std::size_t>(product.image_stride * at.images));
    for (int i = 0; i < at.images; ++i, ++from.n)
      copy_window(x_, from, {first, count, static_cast<int>(depth)}, to + i * product.image_stride);
    int* offset = thread_scratch<ColumnsTag, int>(static_cast<std::size_t>(taps_));
    for (int tap = 0; tap < taps_; ++tap)
      offset[tap] = (tap / shape_.kernel * from.columns + tap % shape_.kernel) * static_cast<int>(depth);
    product.tap_offset = offset;
    product.b = to;
    product.step = shape_.stride * depth;
    product.line_stride = shape_.stride * from.columns * depth;
    return product;
  }

  // [pixel][tap][channel]
  const float* unroll(const Chunk& at) const {
    Window from = window(at);
    const int c = shape_.channels(), k = shape_.kernel;
    float* copy = thread_scratch<CellTag>(static_cast<std::size_t>(from.rows * from.columns * c));
    float* to = thread_scratch<UnrolledTag>(static_cast<std::size_t>(at.images * at.rows * shape_.q * rows_));
    float* pixel = to;
    for (int i = 0; i < at.images; ++i, ++from.n) {
      copy_window(x_, from, {0, c, c}, copy);
      for (int row = 0; row < at.rows; ++row)
        for (int column = 0; column < shape_.q; ++column)
          for (int r = 0; r < k; ++r, pixel += k * c) {
            const int at_row = row * shape_.stride + r, at_column = column * shape_.stride;
            std::copy_n(copy + (at_row * from.columns + at_column) * c, k * c, pixel);
          }
    }
    return to;
  }

  // dweight += the sum of one cell over the slices.
  void add_cell(int block, int panel, const float* sums, float* dweight) const {
    float* total = thread_scratch<CellTag>(static_cast<std::size_t>(cell_size()));
    const int high = height(block), wide = width(panel);
    run_leaf<SliceSum>(SliceSum{sums + cell(block, panel), slice_size(), slices_, total,
                                std::int64_t{taps_} * high * wide});
    const int first_row = block * tile_rows(), first_column = panel * panel_width();
    const int count = std::min(high, rows_ - first_row), columns = std::min(wide, columns_ - first_column);
    const std::int64_t row_stride = unrolled_ ? 1 : std::int64_t{shape_.taps()} * shape_.channels();
    const std::int64_t column_stride = unrolled_ ? std::int64_t{shape_.taps()} * shape_.channels() : 1;
    for (int i = 0; i < count; ++i)
      for (int tap = 0; tap < taps_; ++tap) {
        float* to = dweight + (first_row + i) * row_stride + tap * shape_.channels() + first_column * column_stride;
        const float* from = total + (tap * high + i) * wide;
        for (int j = 0; j < columns; ++j) to[j * column_stride] += from[j];
      }
  }

  Conv2dGeometry shape_;
  Images x_;
  const float* dy_;
  bool unrolled_;            // see the top of this file
  int rows_, columns_, taps_;  // of the product
  int blocks_, panels_, block_group_, panel_group_;
  int chunk_rows_, chunk_images_, row_chunks_, chunks_, slices_;
};

}  // namespace ddpm::detail::cpu
