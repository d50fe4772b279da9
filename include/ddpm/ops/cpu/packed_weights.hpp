// SPDX-License-Identifier: MIT
// The weights of a correlation in the order in which the products read them: for every phase, panels of
// output channels, [panel][tap row][tap column][input channel][panel's columns].
#pragma once

#include <algorithm>
#include <cstdint>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/cpu/conv2d_phases.hpp>
#include <ddpm/ops/cpu/image_window.hpp>
#include <ddpm/ops/cpu/isa.hpp>
#include <ddpm/ops/cpu/tasks.hpp>
#include <ddpm/ops/cpu/tile_product.hpp>

namespace ddpm::detail::cpu {

// Up to so many output channels are computed as dot products, [channel][taps][input channel]: a panel would
// leave most of its lanes empty.
constexpr int dot_columns = 4;

// Output channels [first, first + columns) of one output tensor.
struct Panel {
  int index;
  int tensor, first, columns;
  bool dot;
  int width;   // columns stored
  int offset;  // of its weights within the phase, in units of one column
};

struct PackedWeights {
  Correlation correlation;

  // Elements per pixel where the products read the images: dot products take whole vectors.
  int depth() const {
    const bool dot = uses_dot(correlation.outputs(0)) || uses_dot(correlation.outputs(1));
    return dot ? round_up(correlation.inputs(), vector_width()) : correlation.inputs();
  }
  static bool uses_dot(int outputs) { return outputs > 0 && outputs <= dot_columns; }
  static int panels_of(int outputs) { return ceil_div(outputs, panel_width()); }
  // Columns stored for a tensor: the last panel may be one vector wide instead of two.
  static int columns_of(int outputs) {
    return uses_dot(outputs) ? outputs : round_up(outputs, vector_width());
  }

  int panels() const { return panels_of(correlation.outputs(0)) + panels_of(correlation.outputs(1)); }
  int columns() const { return columns_of(correlation.outputs(0)) + columns_of(correlation.outputs(1)); }

  Panel panel(int index) const {
    const int in_first = panels_of(correlation.outputs(0));
    const int tensor = index < in_first ? 0 : 1;
    const int first = (index - tensor * in_first) * panel_width();
    const int outputs = correlation.outputs(tensor);
    const int width = std::min(panel_width(), columns_of(outputs) - first);
    const int before = tensor == 0 ? 0 : columns_of(correlation.outputs(0));
    return {index, tensor,        first, std::min(outputs - first, panel_width()), uses_dot(outputs),
            width, before + first};
  }

  // Length of the sum of one output of a phase.
  std::int64_t sum_length(int phase) const {
    return std::int64_t{correlation.row_phase(phase).taps} * correlation.column_phase(phase).taps * depth();
  }
  std::int64_t phase_size(int phase) const { return sum_length(phase) * columns(); }
  std::int64_t size() const {
    std::int64_t total = 0;
    for (int phase = 0; phase < correlation.phases(); ++phase) total += phase_size(phase);
    return total;
  }

  void pack(const float* weight, float* to) const {
    for (int phase = 0; phase < correlation.phases(); to += phase_size(phase++))
      run_tasks(panels(), pack_operations(phase), [&](std::int64_t index) {
        const Panel p = panel(static_cast<int>(index));
        pack_panel(weight, phase, p, {0, correlation.inputs(), depth()}, to + p.offset * sum_length(phase));
      });
  }

  // Moving a weight takes as long as some four multiplications.
  double pack_operations(int phase) const { return 4.0 * static_cast<double>(phase_size(phase)); }

  // The weights of some input channels in one panel: [tap row][tap column][inputs.depth][panel's columns].
  void pack_panel(const float* weight, int phase, const Panel& p, const Channels& inputs, float* to) const {
    const Axis rows = correlation.rows(), columns = correlation.columns();
    const int row_class = phase / columns.phases(), column_class = phase % columns.phases();
    const AxisPhase row = rows.at(row_class), column = columns.at(column_class);
    const std::int64_t tap_size = std::int64_t{inputs.depth} * p.width;
    fill_zero(to, row.taps * column.taps * tap_size);
    const int kernel = correlation.shape.kernel, folds = rows.folds();
    const int sum_length = row.taps * column.taps * inputs.depth;
    for (int r = 0; r < kernel * folds; ++r)
      for (int s = 0; s < kernel * folds; ++s) {
        const int y = rows.source(row_class, r / folds, r % folds);
        const int x = columns.source(column_class, s / folds, s % folds);
        if (y == Axis::none || x == Axis::none) continue;
        const int at = (y - row.source_first) * column.taps + (x - column.source_first);
        const int tap = r / folds * kernel + s / folds;
        if (p.dot)
          add_tap(weight, tap, p, inputs, {to + at * std::int64_t{inputs.depth}, sum_length});
        else
          add_tap(weight, tap, p, inputs, {to + at * tap_size, p.width});
      }
  }

 private:
  struct Place {
    float* data;
    int stride;  // from an output to the next for dot products, else from an input to the next
  };
  // Either the outputs or the inputs of a tap follow each other in memory, in `weight` as in `to`.
  void add_tap(const float* weight, int tap, const Panel& p, const Channels& inputs, const Place& to) const {
    const int output = p.first + (p.tensor == 0 ? 0 : correlation.outputs(0));
    const float* from = weight + correlation.weight_index(tap, output, inputs.first);
    const bool by_output = correlation.forward();  // the rows of `from`
    const std::ptrdiff_t stride = std::ptrdiff_t{correlation.shape.taps()} * correlation.shape.channels();
    const int rows = by_output ? p.columns : inputs.count, columns = by_output ? inputs.count : p.columns;
    if (by_output == p.dot)
      run_leaf<MatrixLeaf<true>>(MatrixLeaf<true>{from, stride, to.data, to.stride, rows, columns});
    else
      run_leaf<TransposeLeaf<true>>(TransposeLeaf<true>{from, stride, to.data, to.stride, rows, columns});
  }
};

struct PreparedTag;

// The weights in a layout: those given, or packed now.
template <class Weights>
const float* prepared_weights(const Weights& weights, const float* weight, const float* prepared) {
  if (prepared) return prepared;
  float* packed = thread_scratch<PreparedTag>(static_cast<std::size_t>(weights.size()));
  weights.pack(weight, packed);
  return packed;
}

}  // namespace ddpm::detail::cpu
