// SPDX-License-Identifier: MIT
// Forward and backward-data 3x3 convolution of stride 1 by Winograd's algorithm F(m x m, 3x3).
//
// A unit of tiles is transformed once; then per panel of outputs, one matrix product [tiles, channels] x
// [channels, panel] per coefficient, and the transform back, which adds bias and residual. Multiplications:
// 4/9 (F2), 1/4 (F4) of the direct form's. Bound by arithmetic; the transforms move (1 + 2/m)^2 times the
// image through the nearer caches.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/conv2d.hpp>
#include <ddpm/ops/cpu/gemm.hpp>
#include <ddpm/ops/cpu/image_window.hpp>
#include <ddpm/ops/cpu/implicit_gemm.hpp>
#include <ddpm/ops/cpu/packed_weights.hpp>
#include <ddpm/ops/cpu/tasks.hpp>
#include <ddpm/ops/cpu/winograd_transforms.hpp>

namespace ddpm::detail::cpu {

// So that the streams of coefficients do not fall into the same sets of the cache.
constexpr int coefficient_gap = 16;

// Transformed weights: [panel][coefficient][input channel][panel's columns], with a gap after a coefficient.
template <class F>
struct WinogradWeights {
  PackedWeights weights;

  static constexpr int coefficients = F::inputs * F::inputs;

  static bool supports(const Correlation& c) {
    const Conv2dGeometry& g = c.shape;
    const bool dot = PackedWeights::uses_dot(c.outputs(0)) || PackedWeights::uses_dot(c.outputs(1));
    return g.kernel == 3 && g.stride == 1 && g.upsample == 1 && !dot;
  }

  std::int64_t coefficient_stride(const Panel& panel) const {
    return std::int64_t{weights.correlation.inputs()} * panel.width + coefficient_gap;
  }
  std::int64_t size_of(int panels, int columns) const {
    return coefficients *
           (std::int64_t{weights.correlation.inputs()} * columns + std::int64_t{panels} * coefficient_gap);
  }
  std::int64_t at(const Panel& panel) const { return size_of(panel.index, panel.offset); }
  std::int64_t size() const { return size_of(weights.panels(), weights.columns()); }

  void pack(const float* weight, float* to) const {
    run_tasks(weights.panels(), weights.pack_operations(0), [&](std::int64_t index) {
      const Panel panel = weights.panel(static_cast<int>(index));
      pack_panel(weight, panel, to + at(panel));
    });
  }

  // Some inputs at a time, so that what is between packing and transforming stays in the second cache. Fewer would
  // read shorter pieces of rows that are far apart.
  void pack_panel(const float* weight, const Panel& panel, float* to) const {
    struct DirectTag;
    static constexpr int step = 64, no_offset[1] = {0};
    const int inputs = weights.correlation.inputs();
    float* direct = thread_scratch<DirectTag>(static_cast<std::size_t>(9 * step * panel.width));
    for (int first = 0; first < inputs; first += step) {
      const int count = std::min(step, inputs - first), tap = count * panel.width;
      weights.pack_panel(weight, 0, panel, {first, count, count}, direct);
      run_leaf<TileTransformLeaf<typename F::Weight>>(
          TileTransform{direct, no_offset, std::ptrdiff_t{3} * tap, tap, to + first * panel.width, 0,
                        coefficient_stride(panel), 1, tap});
    }
  }
};

// How an image is cut into tiles, and tiles into units: `rows` rows of tiles of each of `images` images.
struct TileUnits {
  int tile_rows, tile_columns;  // of an image
  UnitShape cut;

  // About `wanted` tiles per unit.
  static TileUnits of(int n, int tile_rows, int tile_columns, int wanted) {
    const int rows = std::clamp(wanted / tile_columns, 1, tile_rows);
    if (rows < tile_rows)
      return {tile_rows, tile_columns, {1, ceil_div(tile_rows, ceil_div(tile_rows, rows))}};
    return {tile_rows, tile_columns, {std::clamp(wanted / (rows * tile_columns), 1, n), rows}};
  }
  int row_units() const { return ceil_div(tile_rows, cut.rows); }
  int units(int n) const { return cut.units(n, tile_rows); }
  int tiles() const { return cut.images * cut.rows * tile_columns; }  // of a unit, at most
};

struct TileUnit {
  int n, images, row, rows;

  TileUnit(const TileUnits& all, int n_all, int index)
      : n(index / all.row_units() * all.cut.images),
        images(std::min(all.cut.images, n_all - n)),
        row(index % all.row_units() * all.cut.rows),
        rows(std::min(all.cut.rows, all.tile_rows - row)) {}
};

struct WinogradTuning {
  int tiles = 96;             // per unit: eight tall register tiles
  int least_tiles = 24;       // units get this small to keep several threads busy
  int tasks = 16;             // wanted
  int unit_floats = 100'000;  // of transformed input: with the products, most of a 1 MiB cache
};
constexpr WinogradTuning winograd_tuning;

template <class F>
struct Winograd {
  PackedWeights weights;
  Images images;
  float* out[2];
  Epilogue epilogue;

  static constexpr int m = F::outputs, coefficients = F::inputs * F::inputs;

  // `prepared` may be null.
  void run(const float* weight, const float* prepared) const {
    const Correlation& c = weights.correlation;
    if (c.shape.n == 0) return;
    const TileUnits all =
        cut_units(c.shape.n, ceil_div(c.rows().outputs, m), ceil_div(c.columns().outputs, m));
    if (all.units(c.shape.n) > winograd_tuning.tasks / 2)
      run_units(all, prepared_weights(layout(), weight, prepared));
    else
      run_panels(all, weight, prepared);
  }

 private:
  struct InputTag;
  struct ProductTag;
  struct WindowTag;
  struct TableTag;

  struct Tables {
    int tiles;
    int *offset, *target, *extent, *sample;  // see TileTransform and TileOutput
  };
  struct Coefficients {
    float* data;
    std::ptrdiff_t stride;
  };

  WinogradWeights<F> layout() const { return {weights}; }
  int depth() const { return round_up(weights.correlation.inputs(), vector_width()); }

  // Transformed input of a unit: between coefficients, and in all.
  std::ptrdiff_t input_stride(const TileUnits& all) const {
    return std::ptrdiff_t{all.tiles()} * depth() + coefficient_gap;
  }
  std::ptrdiff_t input_size(const TileUnits& all) const {
    return coefficients * input_stride(all) + row_table_unit * depth();
  }
  double operations(const TileUnits& all) const {
    return 2.0 * all.units(weights.correlation.shape.n) * static_cast<double>(input_size(all)) *
           weights.columns();
  }

  // A unit is a task.
  void run_units(const TileUnits& all, const float* packed) const {
    const int n = weights.correlation.shape.n;
    run_tasks(all.units(n), operations(all), [&](std::int64_t index) {
      const TileUnit unit(all, n, static_cast<int>(index));
      const Coefficients input{thread_scratch<InputTag>(static_cast<std::size_t>(input_size(all))),
                               input_stride(all)};
      const Tables tables = fill_tables(unit, all);
      transform_input(unit, all, tables, input);
      for (int i = 0; i < weights.panels(); ++i) {
        const Panel panel = weights.panel(i);
        run_panel(panel, tables, input, packed + layout().at(panel));
      }
    });
  }

  // Few units, which groups of panels share. A panel that is not prepared is packed by the one task that uses it, and
  // stays in the second cache.
  void run_panels(const TileUnits& all, const float* weight, const float* prepared) const {
    struct SharedTag;
    struct PanelTag;
    const int n = weights.correlation.shape.n, units = all.units(n), panels = weights.panels();
    float* inputs = thread_scratch<SharedTag>(static_cast<std::size_t>(units * input_size(all)));
    const auto input = [&](int unit) {
      return Coefficients{inputs + unit * input_size(all), input_stride(all)};
    };
    run_tasks(units, 4.0 * units * static_cast<double>(input_size(all)), [&](std::int64_t index) {
      const TileUnit unit(all, n, static_cast<int>(index));
      transform_input(unit, all, fill_tables(unit, all), input(static_cast<int>(index)));
    });
    if (panels < winograd_tuning.tasks / 2) prepared = prepared_weights(layout(), weight, prepared);
    const int groups = prepared ? std::clamp(winograd_tuning.tasks / units, 1, panels) : panels;
    const int group = ceil_div(panels, groups), spans = prepared ? units : 1;
    run_tasks(std::int64_t{spans} * groups, operations(all), [&](std::int64_t task) {
      const auto first = static_cast<int>(task % groups) * group;
      for (int i = first; i < std::min(first + group, panels); ++i) {
        const Panel panel = weights.panel(i);
        const float* b = prepared ? prepared + layout().at(panel) : nullptr;
        if (!b) {
          float* packed =
              thread_scratch<PanelTag>(static_cast<std::size_t>(layout().size_of(1, panel.width)));
          layout().pack_panel(weight, panel, packed);
          b = packed;
        }
        for (auto unit = static_cast<int>(task / groups); unit < units; unit += spans)
          run_panel(panel, fill_tables(TileUnit(all, n, unit), all), input(unit), b);
      }
    });
  }

  TileUnits cut_units(int n, int tile_rows, int tile_columns) const {
    constexpr WinogradTuning t = winograd_tuning;
    const std::int64_t tiles = std::int64_t{n} * tile_rows * tile_columns;
    const int fit = std::min(t.tiles, t.unit_floats / (coefficients * depth()));
    const auto share = static_cast<int>(std::min<std::int64_t>(tiles / t.tasks, fit));
    return TileUnits::of(n, tile_rows, tile_columns, std::max(t.least_tiles, share));
  }

  int window_columns(const TileUnits& all) const { return all.tile_columns * m + 2; }

  Tables fill_tables(const TileUnit& unit, const TileUnits& all) const {
    const Correlation& c = weights.correlation;
    const int rows = c.rows().outputs, columns = c.columns().outputs, width = window_columns(all);
    const int window_rows = unit.rows * m + 2, tiles = unit.images * unit.rows * all.tile_columns;
    int* table = thread_scratch<TableTag, int>(static_cast<std::size_t>(tiles) * 4);
    const Tables to{tiles, table, table + tiles, table + 2 * tiles, table + 3 * tiles};
    int at = 0;
    for (int i = 0; i < unit.images; ++i)
      for (int y = 0; y < unit.rows; ++y)
        for (int x = 0; x < all.tile_columns; ++x, ++at) {
          const int row = (unit.row + y) * m, column = x * m;
          to.offset[at] = ((i * window_rows + y * m) * width + column) * depth();
          to.target[at] = ((unit.n + i) * rows + row) * columns + column;
          to.extent[at] = std::min(m, rows - row) * 8 + std::min(m, columns - column);
          to.sample[at] = unit.n + i;
        }
    return to;
  }

  void transform_input(const TileUnit& unit, const TileUnits& all, const Tables& tables,
                       const Coefficients& to) const {
    const Correlation& c = weights.correlation;
    const int rows = unit.rows * m + 2, columns = window_columns(all);
    const std::int64_t size = std::int64_t{rows} * columns * depth();
    float* window = thread_scratch<WindowTag>(static_cast<std::size_t>(size * unit.images));
    const int top = unit.row * m + c.row_phase(0).source_first, left = c.column_phase(0).source_first;
    for (int i = 0; i < unit.images; ++i)
      copy_window(images, {unit.n + i, top, left, rows, columns}, {0, images.channels(), depth()},
                  window + i * size);
    run_leaf<TileTransformLeaf<typename F::Input>>(
        TileTransform{window, tables.offset, std::ptrdiff_t{columns} * depth(), depth(), to.data, depth(),
                      to.stride, tables.tiles, depth()});
  }

  void run_panel(const Panel& panel, const Tables& tables, const Coefficients& input, const float* b) const {
    const int inputs = weights.correlation.inputs();
    const std::ptrdiff_t stride = std::ptrdiff_t{tables.tiles} * panel.width + coefficient_gap;
    float* products = thread_scratch<ProductTag>(
        static_cast<std::size_t>(coefficients * stride + row_table_unit * panel.width));
    for (int k = 0; k < coefficients; ++k)
      panel_product({input.data + k * input.stride, depth(), tables.tiles, inputs,
                     b + k * layout().coefficient_stride(panel), products + k * stride},
                    panel.width);
    const float* residual = epilogue.residual ? epilogue.residual + panel.first : nullptr;
    run_leaf<TileOutputLeaf<F>>(TileOutput{products, stride, tables.tiles, panel.width, panel.columns,
                                           tables.target, tables.extent, tables.sample,
                                           weights.correlation.columns().outputs, epilogue.init + panel.first,
                                           epilogue.init_stride, residual, out[panel.tensor] + panel.first,
                                           weights.correlation.outputs(panel.tensor), epilogue.scale});
  }
};

}  // namespace ddpm::detail::cpu
