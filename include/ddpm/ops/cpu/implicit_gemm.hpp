// SPDX-License-Identifier: MIT
// Direct convolution, forward and backward data: an implicit matrix product straight on channels-last pixels.
//
// Work is cut into units of a few rows or a few images. A unit's source window is copied with its zero
// borders (a 1x1 convolution reads in place), and every pixel's row of the unrolled matrix is then
// `taps` stretches of contiguous floats at an offset from a table. So tiles cross image rows and images, and
// no size of image wastes any. Cost: the multiplications of the definition; bound by arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/conv2d.hpp>
#include <ddpm/ops/cpu/gemm.hpp>
#include <ddpm/ops/cpu/image_window.hpp>
#include <ddpm/ops/cpu/packed_weights.hpp>
#include <ddpm/ops/cpu/tasks.hpp>

namespace ddpm::detail::cpu {

// What is added to the sums of the first tensor written: scale * (init[sample] + residual + sum).
struct Epilogue {
  const float* init;           // [samples, init_stride], zeros where nothing is added
  std::ptrdiff_t init_stride;  // 0: one row for all samples
  const float* residual;       // or null
  float scale;
};

// Rows of outputs that one task computes: `rows` of each of `images` consecutive images.
struct UnitShape {
  int images, rows;
  int units(int n, int all_rows) const { return ceil_div(n, images) * ceil_div(all_rows, rows); }
};

struct ImplicitGemmTuning {
  int pixels = 192;             // per unit: the panel's way from the outer cache is paid by as many
  int least_pixels = 48;        // units get this small to keep several threads busy
  int tasks = 16;               // wanted, by small units first, then by cutting the panels into groups
  int window_floats = 1 << 17;  // of a unit's copied window: half of a 1 MiB cache
};
constexpr ImplicitGemmTuning implicit_gemm_tuning;

struct ImplicitGemm {
  PackedWeights weights;
  Images images;
  float* out[2];
  Epilogue epilogue;

  // `prepared` may be null.
  void run(const float* weight, const float* prepared) const {
    const Correlation& c = weights.correlation;
    const float* packed = prepared_weights(weights, weight, prepared);
    for (int phase = 0; phase < c.phases(); packed += weights.phase_size(phase++))
      run_phase(c.row_phase(phase), c.column_phase(phase), packed);
  }

 private:
  struct Unit {
    int n, images, row, rows;
  };
  struct Tables {
    int *source, *target, *sample;
  };
  struct Source {
    const float* a;
    int columns;  // of the window
    int rows;     // of the window, per image
  };
  struct SourceTag;
  struct TableTag;

  void run_phase(const AxisPhase& row, const AxisPhase& column, const float* packed) const {
    const int n = weights.correlation.shape.n;
    if (n == 0 || row.count == 0 || column.count == 0) return;
    const UnitShape cut = cut_units(row, column);
    const int row_units = ceil_div(row.count, cut.rows), units = cut.units(n, row.count);
    const int groups = std::min(weights.panels(), ceil_div(implicit_gemm_tuning.tasks, units));
    const int group = ceil_div(weights.panels(), groups);
    const double operations =
        2.0 * n * row.count * column.count * weights.columns() * row.taps * column.taps * weights.depth();
    run_tasks(std::int64_t{units} * groups, operations, [&](std::int64_t task) {
      const int index = static_cast<int>(task / groups), first = static_cast<int>(task % groups) * group;
      Unit unit{index / row_units * cut.images, cut.images, index % row_units * cut.rows, cut.rows};
      unit.images = std::min(unit.images, n - unit.n);
      unit.rows = std::min(unit.rows, row.count - unit.row);
      const Source source = read_source(unit, row, column);
      RowProduct product = product_of(unit, row, column, source);
      for (int i = first; i < std::min(first + group, weights.panels()); ++i)
        run_panel(product, weights.panel(i), packed);
    });
  }

  UnitShape cut_units(const AxisPhase& row, const AxisPhase& column) const {
    constexpr ImplicitGemmTuning t = implicit_gemm_tuning;
    const int n = weights.correlation.shape.n;
    const std::int64_t pixels = std::int64_t{n} * row.count * column.count;
    const std::int64_t source = std::int64_t{weights.depth()} * row.source_step * column.source_step;
    const auto fit = static_cast<int>(std::min<std::int64_t>(t.pixels, t.window_floats / source));
    const int wanted =
        std::max(t.least_pixels,
                 std::min<int>(fit, static_cast<int>(std::min<std::int64_t>(pixels / t.tasks, t.pixels))));
    const int rows = std::clamp(wanted / column.count, 1, row.count);
    if (rows < row.count) return {1, ceil_div(row.count, ceil_div(row.count, rows))};
    return {std::clamp(wanted / (rows * column.count), 1, n), rows};
  }

  // A 1x1 convolution of one tensor needs no window.
  bool reads_in_place() const {
    const Conv2dGeometry& g = weights.correlation.shape;
    return g.kernel == 1 && g.stride == 1 && g.pad_begin == 0 && g.p == g.h && g.q == g.w &&
           g.upsample == 1 && images.c2 == 0 && weights.depth() == images.c;
  }

  Source read_source(const Unit& unit, const AxisPhase& row, const AxisPhase& column) const {
    if (reads_in_place())
      return {images.x + (std::int64_t{unit.n} * images.h + unit.row) * images.w * images.c, images.w,
              images.h};
    const int rows = (unit.rows - 1) * row.source_step + row.taps;
    const int columns = (column.count - 1) * column.source_step + column.taps;
    const int depth = weights.depth();
    const std::int64_t size = std::int64_t{rows} * columns * depth;
    float* window = thread_scratch<SourceTag>(static_cast<std::size_t>(size * unit.images));
    for (int i = 0; i < unit.images; ++i)
      copy_window(
          images,
          {unit.n + i, unit.row * row.source_step + row.source_first, column.source_first, rows, columns},
          {0, images.channels(), depth}, window + i * size);
    return {window, columns, rows};
  }

  RowProduct product_of(const Unit& unit, const AxisPhase& row, const AxisPhase& column,
                        const Source& source) const {
    const Correlation& c = weights.correlation;
    const int out_rows = c.rows().outputs, out_columns = c.columns().outputs, depth = weights.depth();
    const int pixels = unit.images * unit.rows * column.count, room = round_up(pixels, row_table_unit);
    int* table = thread_scratch<TableTag, int>(static_cast<std::size_t>(room) * 3);
    const Tables to{table, table + room, table + 2 * room};
    int at = 0;
    for (int i = 0; i < unit.images; ++i)
      for (int y = 0; y < unit.rows; ++y)
        for (int x = 0; x < column.count; ++x, ++at) {
          to.source[at] =
              ((i * source.rows + y * row.source_step) * source.columns + x * column.source_step) * depth;
          to.target[at] = ((unit.n + i) * out_rows + row.first + (unit.row + y) * row.step) * out_columns +
                          column.first + x * column.step;
          to.sample[at] = unit.n + i;
        }
    for (; at < room; ++at) {
      to.source[at] = to.source[pixels - 1];
      to.target[at] = to.target[pixels - 1];
      to.sample[at] = to.sample[pixels - 1];
    }
    RowProduct product{};
    product.a = source.a;
    product.source = to.source;
    product.target = to.target;
    product.sample = to.sample;
    product.rows = pixels;
    product.runs = column.taps == 0 ? 0 : row.taps;
    product.run_length = column.taps * depth;
    product.run_stride = std::ptrdiff_t{source.columns} * depth;
    product.scale = epilogue.scale;
    return product;
  }

  void run_panel(RowProduct& product, const Panel& panel, const float* packed) const {
    product.b = packed + panel.offset * product.runs * product.run_length;
    product.init = epilogue.init + panel.first;
    product.init_stride = epilogue.init_stride;
    product.residual = epilogue.residual ? epilogue.residual + panel.first : nullptr;
    product.y = out[panel.tensor] + panel.first;
    product.y_stride = weights.correlation.outputs(panel.tensor);
    product.columns = panel.columns;
    if (panel.dot)
      dot_product(product);
    else
      row_product(product);
  }
};

}  // namespace ddpm::detail::cpu
