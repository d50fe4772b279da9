// SPDX-License-Identifier: MIT
// Forward and backward-data convolution as one operation: per residue class of the outputs ("phase"), a plain
// strided correlation.
//
// Along one axis, with kernel tap r, forward output p reads pixel floor((p * stride + r - pad) / upsample) of
// the small image. For the outputs p = upsample * i + e of one phase e that is i * stride plus a number that
// depends on r alone; taps that read the same pixel are added, so a 3x3 convolution of an enlarged image does
// 4 products per output instead of 9. In backward data, input pixel i gathers from the outputs
// p = (upsample * i + a + pad - r) / stride, 0 <= a < upsample, where that is whole: over the phases of i
// that is again a correlation, so a strided backward pass neither scatters nor multiplies zeros.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>

#include <ddpm/ops/conv2d.hpp>

namespace ddpm::detail::cpu {

// Outputs first + i * step, i < count, read sources i * source_step + source_first + [0, taps).
struct AxisPhase {
  int first, step, count;
  int source_first, source_step, taps;
};

struct Axis {
  Conv2dPass pass;
  int kernel, stride, pad, upsample;
  int outputs;

  static constexpr int none = std::numeric_limits<int>::min();

  int phases() const { return pass == Conv2dPass::forward ? upsample : stride / std::gcd(stride, upsample); }
  // How many small pixels' worth of outputs a tap is added up over.
  int folds() const { return pass == Conv2dPass::forward ? 1 : upsample; }

  // The source, relative to i * source_step, that a tap reads in a phase; or none.
  int source(int phase, int tap, int fold) const {
    if (pass == Conv2dPass::forward) {
      const int fine = phase * stride + tap - pad;
      return fine >= 0 ? fine / upsample : -((upsample - 1 - fine) / upsample);
    }
    const int distance = upsample * phase + fold + pad - tap;
    return distance % stride == 0 ? distance / stride : none;
  }

  AxisPhase at(int phase) const {
    int low = std::numeric_limits<int>::max(), high = none;
    for (int fold = 0; fold < folds(); ++fold)
      for (int tap = 0; tap < kernel; ++tap)
        if (const int at = source(phase, tap, fold); at != none) {
          low = std::min(low, at);
          high = std::max(high, at);
        }
    const int step = phases(), count = phase < outputs ? (outputs - phase + step - 1) / step : 0;
    const int source_step = pass == Conv2dPass::forward ? stride : upsample * step / stride;
    if (high == none) return {phase, step, count, 0, source_step, 0};
    return {phase, step, count, low, source_step, high - low + 1};
  }
};

// The images that are read and written, and the axes, of either pass of a convolution.
struct Correlation {
  Conv2dGeometry shape;
  Conv2dPass pass;

  bool forward() const { return pass == Conv2dPass::forward; }
  Axis axis(int outputs) const {
    return {pass, shape.kernel, shape.stride, shape.pad_begin, shape.upsample, outputs};
  }
  Axis rows() const { return axis(forward() ? shape.p : shape.h); }
  Axis columns() const { return axis(forward() ? shape.q : shape.w); }
  int phases() const { return rows().phases() * columns().phases(); }
  AxisPhase row_phase(int phase) const { return rows().at(phase / columns().phases()); }
  AxisPhase column_phase(int phase) const { return columns().at(phase % columns().phases()); }
  int inputs() const { return forward() ? shape.channels() : shape.cout; }
  // Channels of the first and the second tensor written.
  int outputs(int tensor) const {
    if (forward()) return tensor == 0 ? shape.cout : 0;
    return tensor == 0 ? shape.c : shape.c2;
  }
  // weight[o, tap, c] for an output and an input channel of this pass.
  std::int64_t weight_index(int tap, int output, int input) const {
    const int o = forward() ? output : input, c = forward() ? input : output;
    return (std::int64_t{o} * shape.taps() + tap) * shape.channels() + c;
  }
};

}  // namespace ddpm::detail::cpu
