// SPDX-License-Identifier: MIT
// Weight gradient of a 3x3 convolution of stride 1 by Winograd's algorithm: per coefficient, the sum over
// tiles of transformed dy times transformed x; the sum is transformed back once, at the end.
//
// Multiplications: 4/9 (F2), 1/4 (F4) of the direct form's. Bound by arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/conv2d.hpp>
#include <ddpm/ops/cpu/gemm.hpp>
#include <ddpm/ops/cpu/gradient_cells.hpp>
#include <ddpm/ops/cpu/image_window.hpp>
#include <ddpm/ops/cpu/winograd.hpp>
#include <ddpm/ops/cpu/winograd_transforms.hpp>

namespace ddpm::detail::cpu {

struct WinogradGradientTuning {
  GradientGroup group{144, 128};  // larger ones save transforms: the sums stay in an outer cache
  int unit_floats = 650'000;      // of transformed operands
  int tiles = 64;                 // per unit, at most: those of one coefficient fit the second cache
  int tasks = 16;                 // wanted, where every slice has
  int slice_tiles = 256;          // so many tiles, which pay for its sums
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
    const int depth = round_up(std::min(cells_.rows, t.group.rows), vector_width()) +
                      round_up(std::min(cells_.columns, t.group.columns), vector_width());
    const int fit = t.unit_floats / (coefficients * depth);
    all_ = TileUnits::of(shape.n, ceil_div(shape.p, m), ceil_div(shape.q, m), std::min(fit, t.tiles));
    const int tiles = shape.n * all_.tile_rows * all_.tile_columns;
    slices_ =
        std::min({all_.units(shape.n), ceil_div(t.tasks, cells_.groups()), ceil_div(tiles, t.slice_tiles)});
  }

  // dweight += the gradient.
  void run(float* dweight) const {
    const double tiles = 1.0 * shape_.n * all_.tile_rows * all_.tile_columns;
    cells_.run(
        slices_, tiles,
        [&](int slice, const GradientCells::Group& group, float* sums) { run_task(slice, group, sums); },
        [&](int block, int panel, const float* sums) { add_cell(block, panel, sums, dweight); });
  }

 private:
  struct RowsTag;
  struct ColumnsTag;
  struct WindowTag;
  struct OffsetTag;
  struct TapsTag;

  static constexpr int m = F::outputs, coefficients = F::inputs * F::inputs;

  // Transformed channels [first, first + count) of a unit: [coefficient][tile][depth], and a gap.
  struct Operand {
    float* data;
    int first, count, depth;
    std::ptrdiff_t coefficient_stride;

    Operand(int first_channel, int end, int tiles)
        : data(nullptr),
          first(first_channel),
          count(end - first_channel),
          depth(round_up(count, vector_width())),
          coefficient_stride(tiles * depth + coefficient_gap) {}
  };

  void run_task(int slice, const GradientCells::Group& group, float* sums) const {
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
      static constexpr int no_offset[1] = {0};
      OuterProduct product{};
      product.images = product.lines = product.taps = 1;
      product.line_length = tiles;
      product.tap_offset = no_offset;
      product.is_first = index == begin;
      multiply(group, product, a, b, sums);
    }
  }

  // Where the tiles of a unit are read: [images][rows][columns][depth].
  struct Source {
    const float* data;
    int rows, columns, depth;
  };

  // An image without a border that is whole tiles of whole vectors is read where it lies.
  template <class Map>
  Source read(const TileUnit& unit, const Images& images, int border, const Operand& to) const {
    const bool is_whole = images.h % m == 0 && images.w % m == 0 && images.c % vector_width() == 0;
    if (border == 0 && Map::in == m && is_whole)
      return {images.x + (std::int64_t{unit.n} * images.h + unit.row * m) * images.w * images.c + to.first,
              images.h, images.w, images.c};
    const int rows = (unit.rows - 1) * m + Map::in, columns = (all_.tile_columns - 1) * m + Map::in;
    const std::int64_t size = std::int64_t{rows} * columns * to.depth;
    float* window = thread_scratch<WindowTag>(static_cast<std::size_t>(size * unit.images));
    for (int i = 0; i < unit.images; ++i)
      copy_window(images, {unit.n + i, unit.row * m + border, border, rows, columns},
                  {to.first, to.count, to.depth}, window + i * size);
    return {window, rows, columns, to.depth};
  }

  template <class Map>
  void transform(const TileUnit& unit, const Images& images, int border, const Operand& to) const {
    const Source from = read<Map>(unit, images, border, to);
    const int tiles = unit.images * unit.rows * all_.tile_columns;
    int* offset = thread_scratch<OffsetTag, int>(static_cast<std::size_t>(tiles));
    for (int i = 0, at = 0; i < unit.images; ++i)
      for (int y = 0; y < unit.rows; ++y)
        for (int x = 0; x < all_.tile_columns; ++x)
          offset[at++] = ((i * from.rows + y * m) * from.columns + x * m) * from.depth;
    run_leaf<TileTransformLeaf<Map>>(
        TileTransform{from.data, offset, std::ptrdiff_t{from.columns} * from.depth, from.depth, to.data,
                      to.depth, to.coefficient_stride, tiles, to.depth});
  }

  // Coefficients outermost: so what is read again and again, by every block or panel, fits the first cache.
  void multiply(const GradientCells::Group& group, OuterProduct& product, const Operand& a, const Operand& b,
                float* sums) const {
    product.a_step = a.depth;
    product.step = b.depth;
    for (int k = 0; k < coefficients; ++k)
      for (int panel = group.panel; panel < group.panel_end; ++panel)
        for (int block = group.block; block < group.block_end; ++block) {
          product.height = cells_.height(block);
          product.a = a.data + k * a.coefficient_stride + (block - group.block) * tile_rows();
          product.b = b.data + k * b.coefficient_stride + (panel - group.panel) * panel_width();
          product.sum = sums + cells_.cell(block, panel) + k * product.height * cells_.width(panel);
          outer_product(product, cells_.width(panel));
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
