// SPDX-License-Identifier: MIT
// Weight gradient of a 3x3 convolution of stride 1 by Winograd's algorithm: per coefficient, the sum over
// tiles of transformed dy times transformed x; the sum is transformed back once, at the end.
//
// Multiplications: 4/9 (F2), 1/4 (F4) of the direct form's. Bound by arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ddpm/core/parallel.hpp>
#include <ddpm/core/tensor.hpp>
#include <ddpm/ops/conv2d.hpp>
#include <ddpm/ops/cpu/gemm.hpp>
#include <ddpm/ops/cpu/gradient_cells.hpp>
#include <ddpm/ops/cpu/image_window.hpp>
#include <ddpm/ops/cpu/tasks.hpp>
#include <ddpm/ops/cpu/winograd.hpp>
#include <ddpm/ops/cpu/winograd_transforms.hpp>

namespace ddpm::detail::cpu {

struct WinogradGradientTuning {
  int group = 64;             // rows and columns of the gradient per task
  int unit_floats = 130'000;  // of transformed operands: with the sums, most of a 1 MiB cache
  int tiles = 96;             // per unit, at most
  int tasks = 16;             // wanted, where every slice has
  int slice_tiles = 192;      // so many tiles, which pay for its sums
};
constexpr WinogradGradientTuning winograd_gradient_tuning;

template <class F>
class WinogradWeightGradient {
 public:
  static bool supports(const Conv2dGeometry& g) { return g.kernel == 3 && g.stride == 1; }

  WinogradWeightGradient(const Conv2dGeometry& shape, const Images& x, const float* dy)
      : shape_(shape),
        x_(x),
        dy_{dy, nullptr, shape.p, shape.q, shape.cout, 0, 1},
        cells_(
            GradientCells::of(shape.cout, shape.channels(), coefficients, winograd_gradient_tuning.group)) {
    constexpr WinogradGradientTuning t = winograd_gradient_tuning;
    const int fit = t.unit_floats / (coefficients * (group_depth(cells_.rows) + group_depth(cells_.columns)));
    all_ = TileUnits::of(shape.n, ceil_div(shape.p, m), ceil_div(shape.q, m), std::min(fit, t.tiles));
    const int tiles = shape.n * all_.tile_rows * all_.tile_columns;
    slices_ =
        std::min({all_.units(shape.n), ceil_div(t.tasks, cells_.groups()), ceil_div(tiles, t.slice_tiles)});
  }

  // dweight += the gradient.
  void run(float* dweight) const {
    const Tensor<float, Cpu> sums(Cpu{}, {slices_, cells_.slice_size()});
    const double tiles = 1.0 * shape_.n * all_.tile_rows * all_.tile_columns;
    run_tasks(std::int64_t{slices_} * cells_.groups(), cells_.sum_operations(tiles), [&](std::int64_t task) {
      const auto slice = static_cast<int>(task / cells_.groups());
      run_task(slice, cells_.group(static_cast<int>(task % cells_.groups())),
               sums.data() + slice * cells_.slice_size());
    });
    run_tasks(std::int64_t{cells_.blocks} * cells_.panels, cells_.total_operations(slices_),
              [&](std::int64_t cell) {
                add_cell(static_cast<int>(cell / cells_.panels), static_cast<int>(cell % cells_.panels),
                         sums.data(), dweight);
              });
  }

 private:
  struct RowsTag;
  struct ColumnsTag;
  struct WindowTag;
  struct OffsetTag;
  struct TapsTag;

  static constexpr int m = F::outputs, coefficients = F::inputs * F::inputs;

  static int group_depth(int channels) {
    return round_up(std::min(channels, winograd_gradient_tuning.group), vector_width());
  }

  // Transformed channels [first, first + count) of a unit: [coefficient][tile][stride].
  struct Operand {
    float* data;
    int first, count;
    std::ptrdiff_t stride, coefficient_stride;

    Operand(int first_channel, int end, int tiles)
        : data(nullptr), first(first_channel), count(end - first_channel) {
      // An odd number of cache lines, so that the tiles do not fall into the same sets.
      stride = (round_up(depth(), 16) / 16 | 1) * 16;
      coefficient_stride = tiles * stride;
    }
    int depth() const { return round_up(count, vector_width()); }
  };

  void run_task(int slice, const GradientCells::Group& group, float* sums) const {
    cells_.zero(group, sums);
    const int units = all_.units(shape_.n);
    const auto begin = static_cast<int>(std::int64_t{units} * slice / slices_);
    const auto end = static_cast<int>(std::int64_t{units} * (slice + 1) / slices_);
    for (int index = begin; index < end; ++index) {
      const TileUnit unit(all_, shape_.n, index);
      const int tiles = unit.images * unit.rows * all_.tile_columns;
      Operand a(group.block * tile_rows(), std::min(cells_.rows, group.block_end * tile_rows()), tiles);
      Operand b(group.panel * panel_width(), std::min(cells_.columns, group.panel_end * panel_width()),
                tiles);
      a.data = thread_scratch<RowsTag>(static_cast<std::size_t>(coefficients * a.coefficient_stride));
      b.data = thread_scratch<ColumnsTag>(static_cast<std::size_t>(coefficients * b.coefficient_stride));
      transform<typename F::OutputGradient>(unit, dy_, 0, a);
      transform<typename F::Input>(unit, x_, -shape_.pad_begin, b);
      multiply(group, tiles, a, b, sums);
    }
  }

  template <class Map>
  void transform(const TileUnit& unit, const Images& images, int border, const Operand& to) const {
    const int rows = (unit.rows - 1) * m + Map::in, columns = (all_.tile_columns - 1) * m + Map::in;
    const int depth = to.depth(), tiles = unit.images * unit.rows * all_.tile_columns;
    const std::int64_t size = std::int64_t{rows} * columns * depth;
    float* window = thread_scratch<WindowTag>(static_cast<std::size_t>(size * unit.images));
    int* offset = thread_scratch<OffsetTag, int>(static_cast<std::size_t>(tiles));
    for (int i = 0, at = 0; i < unit.images; ++i) {
      copy_window(images, {unit.n + i, unit.row * m + border, border, rows, columns},
                  {to.first, to.count, depth}, window + i * size);
      for (int y = 0; y < unit.rows; ++y)
        for (int x = 0; x < all_.tile_columns; ++x)
          offset[at++] = ((i * rows + y * m) * columns + x * m) * depth;
    }
    run_leaf<TileTransformLeaf<Map>>(TileTransform{window, offset, std::ptrdiff_t{columns} * depth, depth,
                                                   to.data, to.stride, to.coefficient_stride, tiles, depth});
  }

  void multiply(const GradientCells::Group& group, int tiles, const Operand& a, const Operand& b,
                float* sums) const {
    static constexpr int no_offset[1] = {0};
    OuterProduct product{};
    product.a_step = a.stride;
    product.step = b.stride;
    product.images = product.lines = product.taps = 1;
    product.line_length = tiles;
    product.tap_offset = no_offset;
    // Coefficients innermost: so the sums, which take the most memory, are read and written in order.
    for (int panel = group.panel; panel < group.panel_end; ++panel)
      for (int block = group.block; block < group.block_end; ++block) {
        product.height = cells_.height(block);
        for (int k = 0; k < coefficients; ++k) {
          product.a = a.data + k * a.coefficient_stride + (block - group.block) * tile_rows();
          product.b = b.data + k * b.coefficient_stride + (panel - group.panel) * panel_width();
          product.sum = sums + cells_.cell(block, panel) + k * product.height * cells_.width(panel);
          outer_product(product, cells_.width(panel));
        }
      }
  }

  void add_cell(int block, int panel, const float* sums, float* dweight) const {
    const int tile = cells_.height(block) * cells_.width(panel);
    const float* total = cells_.total(block, panel, sums, slices_);
    float* taps = thread_scratch<TapsTag>(static_cast<std::size_t>(9 * tile));
    static constexpr int no_offset[1] = {0};
    run_leaf<TileTransformLeaf<typename F::WeightGradient>>(
        TileTransform{total, no_offset, std::ptrdiff_t{F::inputs} * tile, tile, taps, 0, tile, 1, tile});
    const std::int64_t channels = shape_.channels();
    cells_.add(block, panel, 9, taps, {dweight, 9 * channels, channels, 1});
  }

  Conv2dGeometry shape_;
  Images x_, dy_;
  GradientCells cells_;
  TileUnits all_;
  int slices_;
};

}  // namespace ddpm::detail::cpu
