// SPDX-License-Identifier: MIT
// Moments of a tensor [N, HW, C] by channel, over slabs of its pixels. The op that makes a tensor leaves them
// for the group norm that reads it, which then reads the tensor once.
#pragma once

#include <algorithm>
#include <cstdint>

#include <ddpm/core/dtype.hpp>

namespace ddpm {

inline constexpr int moments_slab = 64;  // pixels; the last slab of a sample may have fewer

DDPM_HOST_DEVICE constexpr int moments_slabs(int hw) { return (hw + moments_slab - 1) / moments_slab; }

// Of some pixels of one channel. Those of a tensor are [N, Slabs, C].
template <class Real>
struct ChannelMoments {
  Real mean;
  Real deviation;  // sum of the squared deviations from mean
};

// For backends of the host: moments of y [N, HW, C].
template <class T>
void channel_moments(const T* y, int n, int hw, int c, ChannelMoments<Accumulator<T>>* moments) {
  for (int sample = 0; sample < n; ++sample)
    for (int first = 0; first < hw; first += moments_slab)
      for (int channel = 0; channel < c; ++channel, ++moments) {
        const int pixels = std::min(moments_slab, hw - first);
        const T* const from = y + (std::int64_t{sample} * hw + first) * c + channel;
        double mean = 0, deviation = 0;
        for (int i = 0; i < pixels; ++i) mean += static_cast<double>(from[std::int64_t{i} * c]) / pixels;
        for (int i = 0; i < pixels; ++i) {
          const double difference = static_cast<double>(from[std::int64_t{i} * c]) - mean;
          deviation += difference * difference;
        }
        *moments = {static_cast<Accumulator<T>>(mean), static_cast<Accumulator<T>>(deviation)};
      }
}

}  // namespace ddpm
