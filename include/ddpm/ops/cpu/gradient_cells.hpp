// SPDX-License-Identifier: MIT
// How a weight gradient is cut: into register tiles ("cells") that groups of tasks sum up in slices of the
// pixels, and how the slices are added, in order, so that no result depends on the number of threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include <ddpm/core/parallel.hpp>
#include <ddpm/core/tensor.hpp>
#include <ddpm/ops/cpu/gemm.hpp>
#include <ddpm/ops/cpu/image_window.hpp>
#include <ddpm/ops/cpu/isa.hpp>
#include <ddpm/ops/cpu/tasks.hpp>
#include <ddpm/ops/cpu/tile_product.hpp>

namespace ddpm::detail::cpu {

// to = the sum of `slices` arrays, each `stride` after the one before.
struct SliceSum {
  const float* from;
  std::ptrdiff_t stride;
  int slices;
  float* to;
  std::int64_t count;  // a multiple of every vector width

  template <class V>
  [[gnu::always_inline]] static void run(const SliceSum& p) {
    for (std::int64_t i = 0; i < p.count; i += V::width) {
      typename V::type sum = vector_at<V>(p.from + i).value;
      for (int slice = 1; slice < p.slices; ++slice) sum += vector_at<V>(p.from + slice * p.stride + i).value;
      vector_at<V>(p.to + i).value = sum;
    }
  }
};

// Where a row, tap and column of the summed matrices belongs in dweight; rows or columns follow each other.
struct GradientTarget {
  float* dweight;
  std::int64_t row_stride, tap_stride, column_stride;
};

// Rows and columns of the gradient per task, at most: what is copied or transformed is used by as many. Multiples of
// the height of every register tile and the width of every panel.
struct GradientGroup {
  int rows, columns;
};

// `matrices` matrices [rows, columns], for instance one per tap. A cell holds the same register tile of all:
// [matrix][height][width]. A slice holds all cells, each with room for a full tile.
struct GradientCells {
  int rows, columns, matrices;
  int blocks, panels;            // register tiles along the rows and the columns
  int block_group, panel_group;  // computed by one task

  static GradientCells of(int rows, int columns, int matrices, const GradientGroup& group) {
    const int blocks = ceil_div(rows, tile_rows()), panels = ceil_div(columns, panel_width());
    return {rows,
            columns,
            matrices,
            blocks,
            panels,
            round_up(equal_share(blocks, group.rows / tile_rows()), blocks_of_vectors()),
            equal_share(panels, group.columns / panel_width())};
  }
  // `all` in as many equal parts of at most `most` as are needed.
  static int equal_share(int all, int most) { return ceil_div(all, ceil_div(all, most)); }
  // A group begins at a whole vector of rows, so that those of the last one end where the rows do.
  static int blocks_of_vectors() { return vector_width() / std::gcd(tile_rows(), vector_width()); }

  struct Group {
    int block, block_end, panel, panel_end;
  };
  int groups() const { return ceil_div(blocks, block_group) * ceil_div(panels, panel_group); }
  Group group(int index) const {
    const int panel_groups = ceil_div(panels, panel_group);
    const int block = index / panel_groups * block_group, panel = index % panel_groups * panel_group;
    return {block, std::min(blocks, block + block_group), panel, std::min(panels, panel + panel_group)};
  }

  std::int64_t cell_size() const { return std::int64_t{matrices} * tile_rows() * panel_width(); }
  std::int64_t slice_size() const { return cell_size() * blocks * panels; }
  std::int64_t cell(int block, int panel) const {
    return (std::int64_t{block} * panels + panel) * cell_size();
  }
  int height(int block) const { return tile_height(rows - block * tile_rows()); }
  int width(int panel) const {
    return columns - panel * panel_width() > vector_width() ? panel_width() : vector_width();
  }

  // Calls sum(slice, group, sums of the slice) for all of them, then add(block, panel, sums of all slices) for
  // every cell: at once where its sums are complete, and still in the cache.
  template <class Sum, class Add>
  void run(int slices, double pixels, Sum&& sum, Add&& add) const {
    const Tensor<float, Cpu> room(Cpu{}, {slices, slice_size()});
    float* sums = room.data();
    run_tasks(std::int64_t{slices} * groups(), sum_operations(pixels), [&](std::int64_t task) {
      const auto slice = static_cast<int>(task / groups());
      const Group part = group(static_cast<int>(task % groups()));
      sum(slice, part, sums + slice * slice_size());
      if (slices > 1) return;
      for (int block = part.block; block < part.block_end; ++block)
        for (int panel = part.panel; panel < part.panel_end; ++panel) add(block, panel, sums);
    });
    if (slices == 1) return;
    run_tasks(std::int64_t{blocks} * panels, total_operations(slices), [&](std::int64_t index) {
      add(static_cast<int>(index / panels), static_cast<int>(index % panels), sums);
    });
  }

  // Operations, for run_tasks: of a sum over `pixels` (or tiles), and of adding up the slices.
  double sum_operations(double pixels) const { return 2.0 * pixels * matrices * rows * columns; }
  double total_operations(int slices) const { return 10.0 * slices * matrices * rows * columns; }

  // One cell summed over the slices.
  const float* total(int block, int panel, const float* sums, int slices) const {
    if (slices == 1) return sums + cell(block, panel);
    struct TotalTag;
    float* to = thread_scratch<TotalTag>(static_cast<std::size_t>(cell_size()));
    run_leaf<SliceSum>(SliceSum{sums + cell(block, panel), slice_size(), slices, to,
                                std::int64_t{matrices} * height(block) * width(panel)});
    return to;
  }

  // dweight += a cell of `taps` matrices.
  void add(int block, int panel, int taps, const float* total, const GradientTarget& target) const {
    const int high = height(block), wide = width(panel);
    const int first_row = block * tile_rows(), first_column = panel * panel_width();
    const int row_count = std::min(high, rows - first_row), count = std::min(wide, columns - first_column);
    for (int tap = 0; tap < taps; ++tap) {
      const float* from = total + tap * high * wide;
      float* to = target.dweight + first_row * target.row_stride + tap * target.tap_stride +
                  first_column * target.column_stride;
      if (target.column_stride == 1)
        run_leaf<MatrixLeaf<true>>(MatrixLeaf<true>{from, wide, to, target.row_stride, row_count, count});
      else
        run_leaf<TransposeLeaf<true>>(
            TransposeLeaf<true>{from, wide, to, target.column_stride, row_count, count});
    }
  }
};

}  // namespace ddpm::detail::cpu
