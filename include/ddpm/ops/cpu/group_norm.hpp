// SPDX-License-Identifier: MIT
// Group normalisation, a block of a sample's groups at a time. Math and parameters: ddpm/ops/group_norm.hpp.
//
// A block is small enough to stay in the second-level cache, so memory is read once: for the mean, for the
// variance about that mean (a mean of 100 standard deviations costs no accuracy), and to normalise. Backward:
// once for the sums, leaving d loss / dv in dx, and once to combine. Rows go by runs: vectors of channels
// stay in registers along a run, and only sums of runs are added up in memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/cpu/reduce.hpp>
#include <ddpm/ops/cpu/simd.hpp>
#include <ddpm/ops/group_norm.hpp>

namespace ddpm {

namespace detail::cpu {

struct GroupNormTuning {
  std::int64_t block_bytes = 512 << 10;  // half of a usual second-level cache
  std::int64_t least_bytes = 16 << 10;   // of a block that is split off for the sake of parallelism alone
  int least_tasks = 16;
};
constexpr GroupNormTuning group_norm_tuning;

// Rows are taken by runs of this many.
constexpr int group_norm_run = 32;

// Per channel, over rows: sum += x - shift, squares += (x - shift)^2.
struct ShiftedSumsLeaf {
  const float* x;
  std::int64_t stride;
  int rows, columns;
  const float* shift;
  float* sum;
  float* squares;

  template <class V>
  [[gnu::always_inline]] static void run(const ShiftedSumsLeaf& p) {
    ShiftedSumsLeaf part = p;
    for (int row = 0; row < p.rows; row += group_norm_run) {
      part.x = p.x + row * p.stride;
      part.rows = p.rows - row < group_norm_run ? p.rows - row : group_norm_run;
      sweep<V>(part, p.columns);
    }
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t c, const Lanes& lanes) const {
    Floats<V> k, a, b, s{}, q{}, s1{}, q1{};
    lanes.load(k, shift + c);
    const float* from = x + c;
    int row = 0;
    for (; row + 2 <= rows; row += 2, from += 2 * stride) {
      lanes.load(a, from);
      lanes.load(b, from + stride);
      a -= k;
      b -= k;
      s += a;
      s1 += b;
      q += a * a;
      q1 += b * b;
    }
    if (row < rows) {
      lanes.load(a, from);
      a -= k;
      s += a;
      q += a * a;
    }
    lanes.load(a, sum + c);
    lanes.load(b, squares + c);
    a += s + s1;
    b += q + q1;
    lanes.store(sum + c, a);
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
    for (int row = 0; row < p.rows; row += group_norm_run) {
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

// xhat = (x - mean) * rstd,  dv = dy * activation'(xhat * factor + offset),
// sum += dv, products += dv * xhat; dv is kept if there is an activation.
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
  const float* rstd;
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
    Floats<V> m, r, a, b, u, d, s{}, q{};
    lanes.load(m, mean + c);
    lanes.load(r, rstd + c);
    lanes.load(a, factor + c);
    lanes.load(b, offset + c);
    for (int row = 0; row < rows; ++row) {
      lanes.load(u, x + row * stride + c);
      lanes.load(d, dy + row * dy_stride + c);
      u = (u - m) * r;
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

// dx = factor * dv + slope * (x - mean) + offset (+ add)
template <bool Add>
struct GroupNormCombineLeaf {
  const float* x;
  std::int64_t stride;  // also of add and dx
  const float* dv;
  std::int64_t dv_stride;
  const float* add;
  float* dx;
  int rows, columns;
  const float* mean;
  const float* factor;
  const float* slope;
  const float* offset;

  template <class V>
  [[gnu::always_inline]] static void run(const GroupNormCombineLeaf& p) {
    GroupNormCombineLeaf part = p;
    for (int row = 0; row < p.rows; row += group_norm_run) {
      part.x = p.x + row * p.stride;
      part.dv = p.dv + row * p.dv_stride;
      if constexpr (Add) part.add = p.add + row * p.stride;
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
    lanes.load(b, offset + c);
    for (int row = 0; row < rows; ++row) {
      lanes.load(u, x + row * stride + c);
      lanes.load(d, dv + row * dv_stride + c);
      u = (u - m) * k + (d * a + b);
      if constexpr (Add) {
        lanes.load(d, add + row * stride + c);
        u += d;
      }
      lanes.store(dx + row * stride + c, u);
    }
  }
};

// The blocks of groups that tasks work on: cut by the shape alone.
struct GroupNormBlocks {
  int groups_per_block;
  int per_sample;

  explicit GroupNormBlocks(const GroupNormGeometry& s) {
    const std::int64_t bytes = std::int64_t{s.hw} * s.channels() * static_cast<std::int64_t>(sizeof(float));
    const std::int64_t for_cache = bytes / group_norm_tuning.block_bytes + 1;
    const std::int64_t for_tasks = std::min<std::int64_t>(group_norm_tuning.least_tasks / std::max(s.n, 1),
                                                          bytes / group_norm_tuning.least_bytes);
    const auto blocks =
        static_cast<int>(std::clamp<std::int64_t>(std::max(for_cache, for_tasks), 1, s.groups));
    // whole cache lines of channels, where the groups allow it
    const int per_line = Vector16::width / std::gcd(Vector16::width, s.channels_per_group());
    groups_per_block = std::min(round_up(ceil_div(s.groups, blocks), per_line), s.groups);
    per_sample = ceil_div(s.groups, groups_per_block);
  }
};

// The channels of a block that lie in one of the two tensors.
struct GroupNormSegment {
  std::int64_t at;      // of its first element in that tensor
  std::int64_t stride;  // channels of that tensor
  int first;            // its first channel, counted from the block's
  int columns;
};

// One block of one sample.
struct GroupNormTask {
  int n, first_group, groups, per_group;
  int first, channels;  // of x followed by x2
  GroupNormSegment segment[2];

  GroupNormTask(const GroupNormGeometry& s, const GroupNormBlocks& blocks, std::int64_t i)
      : n(static_cast<int>(i / blocks.per_sample)),
        first_group(static_cast<int>(i % blocks.per_sample) * blocks.groups_per_block),
        groups(std::min(blocks.groups_per_block, s.groups - first_group)),
        per_group(s.channels_per_group()),
        first(first_group * per_group),
        channels(groups * per_group) {
    const int split = std::clamp(s.c, first, first + channels);  // where x2 begins
    segment[0] = {std::int64_t{n} * s.hw * s.c + first, s.c, 0, split - first};
    segment[1] = {std::int64_t{n} * s.hw * s.c2 + split - s.c, s.c2, split - first, first + channels - split};
  }
};

struct GroupNormScratch {};

// Adds up the channels of a group.
inline double group_sum(const float* per_channel, int group, int per_group) {
  double sum = 0;
  for (int c = group * per_group; c < (group + 1) * per_group; ++c)
    sum += static_cast<double>(per_channel[c]);
  return sum;
}

// Fills the four arrays of `channels` elements at `statistics`: sums and squares (used up), mean, and low,
// what rounding to float has taken from the mean.
inline void group_norm_statistics(const GroupNormForward<float>& p, const GroupNormTask& task,
                                  float* statistics) {
  const int channels = task.channels, hw = p.shape.hw;
  float *sum = statistics, *squares = sum + channels, *mean = squares + channels, *low = mean + channels;
  std::fill(statistics, statistics + 4 * channels, 0.0f);
  const double count = static_cast<double>(hw) * task.per_group;
  const float* const x[2] = {p.x, p.x2};
  for (int k = 0; k < 2; ++k) {
    const GroupNormSegment& s = task.segment[k];
    if (s.columns > 0)
      run_leaf<ColumnSumsLeaf>(ColumnSumsLeaf{x[k] + s.at, hw, s.stride, sum + s.first, s.columns});
  }
  for (int g = 0; g < task.groups; ++g) {
    const auto value = static_cast<float>(group_sum(sum, g, task.per_group) / count);
    std::fill(mean + g * task.per_group, mean + (g + 1) * task.per_group, value);
  }
  std::fill(sum, sum + channels, 0.0f);
  for (int k = 0; k < 2; ++k) {
    const GroupNormSegment& s = task.segment[k];
    if (s.columns > 0)
      run_leaf<ShiftedSumsLeaf>(ShiftedSumsLeaf{x[k] + s.at, s.stride, hw, s.columns, mean + s.first,
                                                sum + s.first, squares + s.first});
  }
  for (int g = 0; g < task.groups; ++g) {
    const int c = g * task.per_group;
    const double shift = group_sum(sum, g, task.per_group) / count;
    const double exact = static_cast<double>(mean[c]) + shift;
    const double variance = std::max(0.0, group_sum(squares, g, task.per_group) / count - shift * shift);
    const std::int64_t at = std::int64_t{task.n} * p.shape.groups + task.first_group + g;
    p.mean[at] = static_cast<float>(exact);
    p.rstd[at] = static_cast<float>(1 / std::sqrt(variance + static_cast<double>(p.eps)));
    std::fill(mean + c, mean + c + task.per_group, p.mean[at]);
    std::fill(low + c, low + c + task.per_group, static_cast<float>(exact - static_cast<double>(p.mean[at])));
  }
}

// The scale and shift of channel c of sample n, (1, 0) where there are none: v = u * scale + shift.
struct ScaleShift {
  float scale = 1, shift = 0;

  ScaleShift(const float* scale_shift, int channels, int n, int c) {
    if (scale_shift == nullptr) return;
    const float* of_sample = scale_shift + std::int64_t{n} * 2 * channels;
    scale = 1 + of_sample[c];
    shift = of_sample[channels + c];
  }
};

template <bool Silu>
void group_norm_forward_block(const GroupNormForward<float>& p, const GroupNormTask& task) {
  const int channels = task.channels;
  float* statistics = thread_scratch<GroupNormScratch>(static_cast<std::size_t>(4 * channels));
  group_norm_statistics(p, task, statistics);
  float *factor = statistics, *offset = factor + channels, *mean = offset + channels, *low = mean + channels;
  for (int i = 0; i < channels; ++i) {
    const int c = task.first + i;
    const ScaleShift v(p.scale_shift, p.shape.channels(), task.n, c);
    factor[i] = p.gamma[c] * p.rstd[std::int64_t{task.n} * p.shape.groups + c / task.per_group] * v.scale;
    offset[i] = p.beta[c] * v.scale + v.shift - low[i] * factor[i];
  }
  const float* const x[2] = {p.x, p.x2};
  const std::int64_t y_stride = p.shape.channels();
  float* y = p.y + std::int64_t{task.n} * p.shape.hw * y_stride + task.first;
  for (int k = 0; k < 2; ++k) {
    const GroupNormSegment& s = task.segment[k];
    if (s.columns > 0)
      run_leaf<NormaliseLeaf<Silu>>(NormaliseLeaf<Silu>{x[k] + s.at, s.stride, y + s.first, y_stride,
                                                        p.shape.hw, s.columns, mean + s.first,
                                                        factor + s.first, offset + s.first});
  }
}

// The arrays of a backward block, `channels` elements each.
struct GroupNormBackwardArrays {
  float *mean, *rstd, *factor, *offset, *sum, *products, *slope;
  float* dv;  // room for the block's dv, where dx cannot hold it

  GroupNormBackwardArrays(int channels, std::int64_t dv_size) {
    mean = thread_scratch<GroupNormScratch>(static_cast<std::size_t>(7 * channels + dv_size));
    rstd = mean + channels;
    factor = rstd + channels;
    offset = factor + channels;
    sum = offset + channels;
    products = sum + channels;
    slope = products + channels;
    dv = slope + channels;
  }
};

// Turns the sums into the coefficients of dx and leaves this sample's parts of dgamma and dbeta in `parts`.
inline void group_norm_coefficients(const GroupNormBackward<float>& p, const GroupNormTask& task,
                                    const GroupNormBackwardArrays& a, float* parts) {
  const int all = p.shape.channels();
  const double count = static_cast<double>(p.shape.hw) * task.per_group;
  for (int g = 0; g < task.groups; ++g) {
    double sum = 0, products = 0;
    for (int i = g * task.per_group; i < (g + 1) * task.per_group; ++i) {
      const int c = task.first + i;
      const ScaleShift v(p.scale_shift, all, task.n, c);
      if (p.dscale_shift) {
        float* d = p.dscale_shift + std::int64_t{task.n} * 2 * all;
        d[c] = p.gamma[c] * a.products[i] + p.beta[c] * a.sum[i];
        d[all + c] = a.sum[i];
      }
      parts[c] = v.scale * a.products[i];
      parts[all + c] = v.scale * a.sum[i];
      sum += static_cast<double>(p.gamma[c] * parts[all + c]);
      products += static_cast<double>(p.gamma[c] * parts[c]);
      a.factor[i] *= a.rstd[i];
    }
    for (int i = g * task.per_group; i < (g + 1) * task.per_group; ++i) {
      const double rstd = static_cast<double>(a.rstd[i]);
      a.slope[i] = static_cast<float>(-rstd * rstd * products / count);
      a.offset[i] = static_cast<float>(-rstd * sum / count);
    }
  }
}

template <bool Silu>
void group_norm_backward_block(const GroupNormBackward<float>& p, const GroupNormTask& task, float* parts) {
  const int channels = task.channels, hw = p.shape.hw;
  const float* const x[2] = {p.x, p.x2};
  const float* const add[2] = {p.add, p.add2};
  float* const dx[2] = {p.dx, p.dx2};
  // dv waits in dx, unless dx still holds what is to be added
  const bool dx_is_add = (p.add && p.add == p.dx) || (p.add2 && p.add2 == p.dx2);
  const GroupNormBackwardArrays a(channels, Silu && dx_is_add ? std::int64_t{hw} * channels : 0);
  for (int i = 0; i < channels; ++i) {
    const int c = task.first + i;
    const ScaleShift v(p.scale_shift, p.shape.channels(), task.n, c);
    const std::int64_t group = std::int64_t{task.n} * p.shape.groups + c / task.per_group;
    a.mean[i] = p.mean[group];
    a.rstd[i] = p.rstd[group];
    a.factor[i] = p.gamma[c] * v.scale;
    a.offset[i] = p.beta[c] * v.scale + v.shift;
    a.sum[i] = a.products[i] = 0;
  }
  const std::int64_t dy_stride = p.shape.channels();
  const float* dy = p.dy + std::int64_t{task.n} * hw * dy_stride + task.first;
  for (int k = 0; k < 2; ++k) {
    const GroupNormSegment& s = task.segment[k];
    if (s.columns > 0)
      run_leaf<GroupNormSumsLeaf<Silu>>(GroupNormSumsLeaf<Silu>{
          x[k] + s.at, s.stride, dy + s.first, dy_stride, dx_is_add ? a.dv + s.first : dx[k] + s.at,
          dx_is_add ? channels : s.stride, hw, s.columns, a.mean + s.first, a.rstd + s.first,
          a.factor + s.first, a.offset + s.first, a.sum + s.first, a.products + s.first});
  }
  group_norm_coefficients(p, task, a, parts);
  for (int k = 0; k < 2; ++k) {
    const GroupNormSegment& s = task.segment[k];
    if (s.columns <= 0) continue;
    const float* dv = !Silu ? dy + s.first : dx_is_add ? a.dv + s.first : dx[k] + s.at;
    const std::int64_t dv_stride = !Silu ? dy_stride : dx_is_add ? channels : s.stride;
    if (add[k])
      run_leaf<GroupNormCombineLeaf<true>>(GroupNormCombineLeaf<true>{
          x[k] + s.at, s.stride, dv, dv_stride, add[k] + s.at, dx[k] + s.at, hw, s.columns, a.mean + s.first,
          a.factor + s.first, a.slope + s.first, a.offset + s.first});
    else
      run_leaf<GroupNormCombineLeaf<false>>(GroupNormCombineLeaf<false>{
          x[k] + s.at, s.stride, dv, dv_stride, nullptr, dx[k] + s.at, hw, s.columns, a.mean + s.first,
          a.factor + s.first, a.slope + s.first, a.offset + s.first});
  }
}

}  // namespace detail::cpu

inline void launch(const Cpu&, const GroupNormForward<float>& p) {
  using namespace detail::cpu;
  const GroupNormBlocks blocks(p.shape);
  parallel_for(std::int64_t{p.shape.n} * blocks.per_sample, [&](std::int64_t i) {
    const GroupNormTask task(p.shape, blocks, i);
    p.activation == Activation::silu ? group_norm_forward_block<true>(p, task)
                                     : group_norm_forward_block<false>(p, task);
  });
}

inline void launch(const Cpu&, const GroupNormBackward<float>& p) {
  using namespace detail::cpu;
  const GroupNormBlocks blocks(p.shape);
  const int channels = p.shape.channels();
  struct SampleParts {};  // [N, 2, C]: of dgamma and of dbeta
  float* parts = thread_scratch<SampleParts>(static_cast<std::size_t>(p.shape.n) * 2 *
                                             static_cast<std::size_t>(channels));
  parallel_for(std::int64_t{p.shape.n} * blocks.per_sample, [&](std::int64_t i) {
    const GroupNormTask task(p.shape, blocks, i);
    float* of_sample = parts + std::int64_t{task.n} * 2 * channels;
    p.activation == Activation::silu ? group_norm_backward_block<true>(p, task, of_sample)
                                     : group_norm_backward_block<false>(p, task, of_sample);
  });
  add_column_sums(parts, p.shape.n, 2 * channels, channels, p.dgamma);
  add_column_sums(parts + channels, p.shape.n, 2 * channels, channels, p.dbeta);
}

}  // namespace ddpm
