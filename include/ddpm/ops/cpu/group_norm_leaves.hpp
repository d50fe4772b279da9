// SPDX-License-Identifier: MIT
// The loops of group normalisation over the rows (pixels) of a block of channels.
//
// Rows go by runs that fit the first-level cache, vectors of channels staying in registers along a run. A
// run's moments are its mean and its squares about that mean, and runs are merged exactly (Chan et al. 1979),
// so that a mean of 100 standard deviations costs no accuracy.
#pragma once

#include <cstdint>

#include <ddpm/ops/cpu/simd.hpp>

namespace ddpm::detail::cpu {

// Rows are taken by runs of this many.
constexpr int group_norm_run = 32;

// Per channel, over all rows: the mean less `shift`, and the sum of squares about the mean. The shift, the
// first row, only keeps the numbers small.
struct ChannelMomentsLeaf {
  const float* x;
  std::int64_t stride;
  int rows, columns;
  const float* shift;
  float* mean;
  float* squares;
  int rows_before = 0;

  template <class V>
  [[gnu::always_inline]] static void run(const ChannelMomentsLeaf& p) {
    ChannelMomentsLeaf part = p;
    for (int row = 0; row < p.rows; row += group_norm_run) {
      part.x = p.x + row * p.stride;
      part.rows = p.rows - row < group_norm_run ? p.rows - row : group_norm_run;
      part.rows_before = row;
      sweep<V>(part, p.columns);
    }
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t c, const Lanes& lanes) const {
    Floats<V> k, a, b, s{}, s1{}, q{}, q1{};
    const float* from = x + c;
    lanes.load(k, shift + c);
    int row = 0;
    for (; row + 2 <= rows; row += 2, from += 2 * stride) {
      lanes.load(a, from);
      lanes.load(b, from + stride);
      s += a - k;
      s1 += b - k;
    }
    if (row < rows) {
      lanes.load(a, from);
      s += a - k;
    }
    const Floats<V> m = (s + s1) * (1 / static_cast<float>(rows)), center = k + m;
    from = x + c;
    for (row = 0; row + 2 <= rows; row += 2, from += 2 * stride) {
      lanes.load(a, from);
      lanes.load(b, from + stride);
      a -= center;
      b -= center;
      q += a * a;
      q1 += b * b;
    }
    if (row < rows) {
      lanes.load(a, from);
      a -= center;
      q += a * a;
    }
    q += q1;
    if (rows_before == 0) {
      lanes.store(mean + c, m);
      lanes.store(squares + c, q);
      return;
    }
    const float weight = static_cast<float>(rows) / static_cast<float>(rows_before + rows);
    lanes.load(a, mean + c);
    lanes.load(b, squares + c);
    const Floats<V> delta = m - a;
    a += delta * weight;
    b += q + delta * delta * (weight * static_cast<float>(rows_before));
    lanes.store(mean + c, a);
    lanes.store(squares + c, b);
  }
};

// y = activation((x - mean) * factor + offset)
template <bool Silu>
struct NormaliseLeaf {
  const float* x;
  std::int64_t stride;
  float* y;
  std::int64_t y_stride;
  int rows, columns;
  const float* mean;
  const float* factor;
  const float* offset;

  template <class V>
  [[gnu::always_inline]] static void run(const NormaliseLeaf& p) {
    NormaliseLeaf part = p;
    for (int row = (p.rows - 1) / group_norm_run * group_norm_run; row >= 0; row -= group_norm_run) {
      part.x = p.x + row * p.stride;
      part.y = p.y + row * p.y_stride;
      part.rows = p.rows - row < group_norm_run ? p.rows - row : group_norm_run;
      sweep<V>(part, p.columns);
    }
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t c, const Lanes& lanes) const {
    Floats<V> m, a, b, v;
    lanes.load(m, mean + c);
    lanes.load(a, factor + c);
    lanes.load(b, offset + c);
    for (int row = 0; row < rows; ++row) {
      lanes.load(v, x + row * stride + c);
      v = (v - m) * a + b;
      if constexpr (Silu) silu_lanes<V>(v, v);
      lanes.store(y + row * y_stride + c, v);
    }
  }
};

// dv = dy * activation'((x - mean) * factor + offset), kept where there is an activation;
// sum += dv, products += dv * (x - mean).
template <bool Silu>
struct GroupNormSumsLeaf {
  const float* x;
  std::int64_t stride;
  const float* dy;
  std::int64_t dy_stride;
  float* dv;
  std::int64_t dv_stride;
  int rows, columns;
  const float* mean;
  const float* factor;
  const float* offset;
  float* sum;
  float* products;

  template <class V>
  [[gnu::always_inline]] static void run(const GroupNormSumsLeaf& p) {
    GroupNormSumsLeaf part = p;
    for (int row = 0; row < p.rows; row += group_norm_run) {
      part.x = p.x + row * p.stride;
      part.dy = p.dy + row * p.dy_stride;
      if constexpr (Silu) part.dv = p.dv + row * p.dv_stride;
      part.rows = p.rows - row < group_norm_run ? p.rows - row : group_norm_run;
      sweep<V>(part, p.columns);
    }
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t c, const Lanes& lanes) const {
    Floats<V> m, a, b, u, d, s{}, q{};
    lanes.load(m, mean + c);
    lanes.load(a, factor + c);
    lanes.load(b, offset + c);
    for (int row = 0; row < rows; ++row) {
      lanes.load(u, x + row * stride + c);
      lanes.load(d, dy + row * dy_stride + c);
      u -= m;
      if constexpr (Silu) {
        Floats<V> slope;
        silu_slope_lanes<V>(slope, u * a + b);
        d *= slope;
        lanes.store(dv + row * dv_stride + c, d);
      }
      s += d;
      q += d * u;
    }
    lanes.load(u, sum + c);
    lanes.load(d, products + c);
    u += s;
    d += q;
    lanes.store(sum + c, u);
    lanes.store(products + c, d);
  }
};

// dx = factor * dv + slope * (x - mean) + shift (+ add) (+ also).
struct GroupNormCombineLeaf {
  const float* x;
  std::int64_t stride;  // of add, also and dx too
  const float* dv;
  std::int64_t dv_stride;
  const float *add, *also;  // or null
  float* dx;
  int rows, columns;
  const float* mean;
  const float* factor;
  const float* slope;
  const float* shift;

  template <class V>
  [[gnu::always_inline]] static void run(const GroupNormCombineLeaf& p) {
    GroupNormCombineLeaf part = p;
    for (int row = (p.rows - 1) / group_norm_run * group_norm_run; row >= 0; row -= group_norm_run) {
      part.x = p.x + row * p.stride;
      part.dv = p.dv + row * p.dv_stride;
      if (p.add != nullptr) part.add = p.add + row * p.stride;
      if (p.also != nullptr) part.also = p.also + row * p.stride;
      part.dx = p.dx + row * p.stride;
      part.rows = p.rows - row < group_norm_run ? p.rows - row : group_norm_run;
      sweep<V>(part, p.columns);
    }
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t c, const Lanes& lanes) const {
    Floats<V> m, a, k, b, u, d;
    lanes.load(m, mean + c);
    lanes.load(a, factor + c);
    lanes.load(k, slope + c);
    lanes.load(b, shift + c);
    for (int row = 0; row < rows; ++row) {
      lanes.load(u, x + row * stride + c);
      lanes.load(d, dv + row * dv_stride + c);
      u -= m;
      u = u * k + (d * a + b);
      for (const float* const from : {add, also})
        if (from != nullptr) {
          lanes.load(d, from + row * stride + c);
          u += d;
        }
      lanes.store(dx + row * stride + c, u);
    }
  }
};

}  // namespace ddpm::detail::cpu
