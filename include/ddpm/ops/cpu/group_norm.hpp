// SPDX-License-Identifier: MIT
// Group normalisation, a sample at a time. Math and parameters: ddpm/ops/group_norm.hpp.
//
// Forward: the moments, then normalise. Backward: the sums, d loss / dv waiting in dx (making it again costs
// more than memory does), then combine. The second half goes from the last rows to the first, since the last
// are still in cache, so memory is read once where a sample fits the cache and at most twice. Cost beside
// memory: about 0.25 ns per element on one core (AVX-512), 0.5 with SiLU, half as much again backward.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/cpu/group_norm_leaves.hpp>
#include <ddpm/ops/cpu/reduce.hpp>
#include <ddpm/ops/group_norm.hpp>

namespace ddpm {

namespace detail::cpu {

struct GroupNormTuning {
  int least_tasks = 16;                 // split samples by groups where there are fewer,
  std::int64_t least_bytes = 16 << 10;  // into blocks not smaller than this
};
constexpr GroupNormTuning group_norm_tuning;

// The blocks of groups that tasks work on: whole samples where there are enough of them. (Blocks would not
// help the cache: rows apart by a power of two fill a share of its sets only.)
struct GroupNormBlocks {
  int groups_per_block;
  int per_sample;

  explicit GroupNormBlocks(const GroupNormGeometry& s) {
    const std::int64_t bytes = std::int64_t{s.hw} * s.channels() * static_cast<std::int64_t>(sizeof(float));
    const std::int64_t wanted = std::min<std::int64_t>(
        ceil_div(group_norm_tuning.least_tasks, std::max(s.n, 1)), bytes / group_norm_tuning.least_bytes);
    const auto blocks = static_cast<int>(std::clamp<std::int64_t>(wanted, 1, s.groups));
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

// One block of groups of one sample.
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

// Fills p.mean, p.rstd and the arrays of `channels` elements each: mean, and low, what rounding to float has
// taken from it.
inline void group_norm_statistics(const GroupNormForward<float>& p, const GroupNormTask& task, float* mean,
                                  float* low) {
  const int hw = p.shape.hw;
  float *relative = low + task.channels, *squares = relative + task.channels,
        *shift = squares + task.channels;
  const float* const x[2] = {p.x, p.x2};
  for (int k = 0; k < 2; ++k) {
    const GroupNormSegment& s = task.segment[k];
    if (s.columns == 0) continue;
    std::copy_n(x[k] + s.at, s.columns, shift + s.first);
    run_leaf<ChannelMomentsLeaf>(ChannelMomentsLeaf{x[k] + s.at, s.stride, hw, s.columns, shift + s.first,
                                                    relative + s.first, squares + s.first});
  }
  for (int g = 0; g < task.groups; ++g) {
    const int first = g * task.per_group, last = first + task.per_group;
    double sum = 0, squared = 0;
    for (int c = first; c < last; ++c)
      sum += static_cast<double>(shift[c]) + static_cast<double>(relative[c]);
    const double exact = sum / task.per_group;
    for (int c = first; c < last; ++c) {
      const double distance = static_cast<double>(shift[c]) + static_cast<double>(relative[c]) - exact;
      squared += static_cast<double>(squares[c]) + hw * distance * distance;
    }
    const double variance = squared / (static_cast<double>(hw) * task.per_group);
    const std::int64_t at = std::int64_t{task.n} * p.shape.groups + task.first_group + g;
    p.mean[at] = static_cast<float>(exact);
    p.rstd[at] = static_cast<float>(1 / std::sqrt(variance + static_cast<double>(p.eps)));
    std::fill(mean + first, mean + last, p.mean[at]);
    std::fill(low + first, low + last, static_cast<float>(exact - static_cast<double>(p.mean[at])));
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
  float* mean = thread_scratch<GroupNormScratch>(static_cast<std::size_t>(5 * channels));
  float* low = mean + channels;
  group_norm_statistics(p, task, mean, low);
  float *factor = low + channels, *offset = factor + channels;
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
  float *mean, *factor, *offset, *sum, *products, *slope, *shift;
  float* dv;  // [rows, channels]

  GroupNormBackwardArrays(int channels, int rows) {
    mean = thread_scratch<GroupNormScratch>(static_cast<std::size_t>(channels) *
                                            static_cast<std::size_t>(7 + rows));
    factor = mean + channels;
    offset = factor + channels;
    sum = offset + channels;
    products = sum + channels;
    slope = products + channels;
    shift = slope + channels;
    dv = shift + channels;
  }
};

// Turns the sums into the coefficients of dx and leaves this sample's parts of dgamma and dbeta in `parts`.
inline void group_norm_coefficients(const GroupNormBackward<float>& p, const GroupNormTask& task,
                                    const GroupNormBackwardArrays& a, float* parts) {
  const int all = p.shape.channels();
  const double count = static_cast<double>(p.shape.hw) * task.per_group;
  for (int g = 0; g < task.groups; ++g) {
    const float rstd = p.rstd[std::int64_t{task.n} * p.shape.groups + task.first_group + g];
    double sum = 0, products = 0;
    for (int i = g * task.per_group; i < (g + 1) * task.per_group; ++i) {
      const int c = task.first + i;
      const ScaleShift v(p.scale_shift, all, task.n, c);
      const float normalised = a.products[i] * rstd;  // sum of dv * (x - mean) * rstd
      if (p.dscale_shift) {
        float* d = p.dscale_shift + std::int64_t{task.n} * 2 * all;
        d[c] = p.gamma[c] * normalised + p.beta[c] * a.sum[i];
        d[all + c] = a.sum[i];
      }
      parts[c] = v.scale * normalised;
      parts[all + c] = v.scale * a.sum[i];
      sum += static_cast<double>(p.gamma[c] * parts[all + c]);
      products += static_cast<double>(p.gamma[c] * parts[c]);
    }
    const double r = static_cast<double>(rstd);
    for (int i = g * task.per_group; i < (g + 1) * task.per_group; ++i) {
      a.slope[i] = static_cast<float>(-r * r * products / count);
      a.shift[i] = static_cast<float>(-r * sum / count);
    }
  }
}

inline void group_norm_begin_backward(const GroupNormBackward<float>& p, const GroupNormTask& task,
                                      const GroupNormBackwardArrays& a) {
  for (int i = 0; i < task.channels; ++i) {
    const int c = task.first + i;
    const ScaleShift v(p.scale_shift, p.shape.channels(), task.n, c);
    const std::int64_t group = std::int64_t{task.n} * p.shape.groups + c / task.per_group;
    a.mean[i] = p.mean[group];
    a.factor[i] = p.gamma[c] * p.rstd[group] * v.scale;
    a.offset[i] = p.beta[c] * v.scale + v.shift;
    a.sum[i] = a.products[i] = 0;
  }
}

template <bool Silu>
void group_norm_backward_block(const GroupNormBackward<float>& p, const GroupNormTask& task, float* parts) {
  const int hw = p.shape.hw;
  const float* const x[2] = {p.x, p.x2};
  const float *const add[2] = {p.add, p.add2}, *const also[2] = {p.also, nullptr};
  float* const dx[2] = {p.dx, p.dx2};
  // dv cannot wait in dx while that holds what is to be added
  const bool apart = Silu && ((p.dx && (p.add == p.dx || p.also == p.dx)) || (p.dx2 && p.add2 == p.dx2));
  const GroupNormBackwardArrays a(task.channels, apart ? hw : 0);
  group_norm_begin_backward(p, task, a);
  const std::int64_t dy_stride = p.shape.channels();
  const float* dy = p.dy + std::int64_t{task.n} * hw * dy_stride + task.first;
  for (int k = 0; k < 2; ++k) {
    const GroupNormSegment& s = task.segment[k];
    if (s.columns == 0) continue;
    run_leaf<GroupNormSumsLeaf<Silu>>(GroupNormSumsLeaf<Silu>{
        x[k] + s.at, s.stride, dy + s.first, dy_stride, apart ? a.dv + s.first : dx[k] + s.at,
        apart ? task.channels : s.stride, hw, s.columns, a.mean + s.first, a.factor + s.first,
        a.offset + s.first, a.sum + s.first, a.products + s.first});
  }
  group_norm_coefficients(p, task, a, parts);
  for (int k = 0; k < 2; ++k) {
    const GroupNormSegment& s = task.segment[k];
    if (s.columns == 0) continue;
    const float* dv = !Silu ? dy + s.first : apart ? a.dv + s.first : dx[k] + s.at;
    const std::int64_t dv_stride = !Silu ? dy_stride : apart ? task.channels : s.stride;
    run_leaf<GroupNormCombineLeaf>(
        GroupNormCombineLeaf{x[k] + s.at, s.stride, dv, dv_stride, add[k] ? add[k] + s.at : nullptr,
                             also[k] ? also[k] + s.at : nullptr, dx[k] + s.at, hw, s.columns,
                             a.mean + s.first, a.factor + s.first, a.slope + s.first, a.shift + s.first});
    if (p.dx_sums)
      run_leaf<ColumnSumsLeaf>(ColumnSumsLeaf{dx[k] + s.at, hw, s.stride,
                                              p.dx_sums + task.n * p.shape.channels() + task.first + s.first,
                                              s.columns});
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
