// SPDX-License-Identifier: MIT
// The weights of a correlation in the order in which the products read them: for every phase, panels of
// output channels, [panel][tap row][tap column][input channel][panel's columns].
#pragma once

#include <algorithm>
#include <cstdint>

#include <ddpm/ops/cpu/conv2d_phases.hpp>
#include <ddpm/ops/cpu/image_window.hpp>
#include <ddpm/ops/cpu/isa.hpp>
#include <ddpm/ops/cpu/tasks.hpp>

namespace ddpm::detail::cpu {

// Up to so many output channels are computed as dot products, [channel][taps][input channel]: a panel would
// leave most of its lanes empty.
constexpr int dot_columns = 4;

// Output channels [first, first + columns) of one output tensor.
struct Panel {
  int tensor, first, columns;
  bool dot;
  int width;            // columns stored
  std::int64_t offset;  // of its weights within the phase, in units of one column
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
    return {tensor, first,         std::min(outputs - first, panel_width()), uses_dot(outputs),
            width,  before + first};
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
        float* panel_weights = to + p.offset * sum_length(phase);
        pack_panel(weight, phase, p, panel_weights);
      });
  }

  // Moving a weight takes as long as some ten multiplications.
  double pack_operations(int phase) const { return 10.0 * static_cast<double>(phase_size(phase)); }

  void pack_panel(const float* weight, int phase, const Panel& p, float* to) const {
    fill_zero(to, p.width * sum_length(phase));
    const Axis rows = correlation.rows(), columns = correlation.columns();
    const int row_class = phase / columns.phases(), column_class = phase % columns.phases();
    const AxisPhase row = rows.at(row_class), column = columns.at(column_class);
    const int kernel = correlation.shape.kernel, folds = rows.folds();
    for (int r = 0; r < kernel * folds; ++r)
      for (int s = 0; s < kernel * folds; ++s) {
        const int y = rows.source(row_class, r / folds, r % folds);
        const int x = columns.source(column_class, s / folds, s % folds);
        if (y == Axis::none || x == Axis::none) continue;
        const int at = (y - row.source_first) * column.taps + (x - column.source_first);
        add_tap(weight, r / folds * kernel + s / folds, p, TapPlace{at, sum_length(phase), to});
      }
  }

 private:
  struct TapPlace {
    int tap;  // where its weights are added
    std::int64_t sum_length;
    float* panel_weights;
  };
  void add_tap(const float* weight, int tap, const Panel& p, const TapPlace& place) const {
    const int output = p.first + (p.tensor == 0 ? 0 : correlation.outputs(0));
    const std::int64_t column_stride = p.dot ? place.sum_length : 1, input_stride = p.dot ? 1 : p.width;
    float* to = place.panel_weights + place.tap * std::int64_t{depth()} * input_stride;
    const std::int64_t from = correlation.weight_index(tap, output, 0);
    const std::int64_t next_input = correlation.weight_index(tap, output, 1) - from;
    const std::int64_t next_output = correlation.weight_index(tap, output + 1, 0) - from;
    for (int i = 0; i < correlation.inputs(); ++i)
      for (int j = 0; j < p.columns; ++j)
        to[i * input_stride + j * column_stride] += weight[from + i * next_input + j * next_output];
  }
};

}  // namespace ddpm::detail::cpu
