// SPDX-License-Identifier: MIT
// 2-D convolution by plain loops. Math and parameters: ddpm/ops/conv2d.hpp.
#pragma once

#include <vector>

#include <ddpm/ops/conv2d.hpp>

namespace ddpm {

namespace detail::reference {

// The pixel of x that output pixel (p, q) reads through a tap, or -1 in the padding.
inline std::int64_t conv2d_source(const Conv2dGeometry& g, int n, int p, int q, int tap) {
  const int y = p * g.stride + tap / g.kernel - g.pad_begin;
  const int x = q * g.stride + tap % g.kernel - g.pad_begin;
  if (y < 0 || x < 0 || y >= g.h * g.upsample || x >= g.w * g.upsample) return -1;
  return (std::int64_t{n} * g.h + y / g.upsample) * g.w + x / g.upsample;
}

// Calls visit(output pixel, input pixel, tap) for every pair that a tap connects.
template <class Visit>
void conv2d_for_each_tap(const Conv2dGeometry& g, Visit visit) {
  for (int n = 0; n < g.n; ++n)
    for (int p = 0; p < g.p; ++p)
      for (int q = 0; q < g.q; ++q)
        for (int tap = 0; tap < g.taps(); ++tap) {
          const std::int64_t from = conv2d_source(g, n, p, q, tap);
          if (from >= 0) visit((std::int64_t{n} * g.p + p) * g.q + q, from, tap);
        }
}

// Element (pixel, channel) of the channels of x followed by those of x2.
template <class T>
T& joined(T* x, T* x2, const Conv2dGeometry& g, std::int64_t pixel, int channel) {
  return channel < g.c ? x[pixel * g.c + channel] : x2[pixel * g.c2 + channel - g.c];
}

// to[c] += the sum over rows of x[row, c].
template <class T>
void add_column_sums(const T* x, std::int64_t rows, int columns, Accumulator<T>* to) {
  for (int c = 0; c < columns; ++c) {
    double sum = 0;
    for (std::int64_t row = 0; row < rows; ++row) sum += static_cast<double>(x[row * columns + c]);
    to[c] = static_cast<Accumulator<T>>(to[c] + sum);
  }
}

}  // namespace detail::reference

template <class T>
void launch(const Reference&, const Conv2dForward<T>& p) {
  const Conv2dGeometry& g = p.shape;
  const std::int64_t hw = std::int64_t{g.p} * g.q;
  std::vector<double> sum(static_cast<std::size_t>(g.pixels() * g.cout), 0.0);
  detail::reference::conv2d_for_each_tap(g, [&](std::int64_t to, std::int64_t from, int tap) {
    for (int o = 0; o < g.cout; ++o)
      for (int c = 0; c < g.channels(); ++c)
        sum[static_cast<std::size_t>(to * g.cout + o)] +=
            static_cast<double>(detail::reference::joined(p.x, p.x2, g, from, c)) *
            static_cast<double>(p.weight[(std::int64_t{o} * g.taps() + tap) * g.channels() + c]);
  });
  for (std::int64_t i = 0; i < g.pixels() * g.cout; ++i) {
    double value = sum[static_cast<std::size_t>(i)];
    if (p.bias) value += static_cast<double>(p.bias[i % g.cout]);
    if (p.add) value += static_cast<double>(p.add[i / (hw * g.cout) * g.cout + i % g.cout]);
    if (p.residual) value += static_cast<double>(p.residual[i]);
    p.y[i] = static_cast<T>(value * static_cast<double>(p.scale));
  }
  if (p.moments) channel_moments(p.y, g.n, g.p * g.q, g.cout, p.moments);
}

template <class T>
void launch(const Reference&, const Conv2dBackwardData<T>& p) {
  const Conv2dGeometry& g = p.shape;
  const std::int64_t pixels = std::int64_t{g.n} * g.h * g.w;
  std::vector<double> sum(static_cast<std::size_t>(pixels * g.channels()), 0.0);
  detail::reference::conv2d_for_each_tap(g, [&](std::int64_t to, std::int64_t from, int tap) {
    for (int o = 0; o < g.cout; ++o)
      for (int c = 0; c < g.channels(); ++c)
        sum[static_cast<std::size_t>(from * g.channels() + c)] +=
            static_cast<double>(p.dy[to * g.cout + o]) *
            static_cast<double>(p.weight[(std::int64_t{o} * g.taps() + tap) * g.channels() + c]);
  });
  for (std::int64_t pixel = 0; pixel < pixels; ++pixel)
    for (int c = 0; c < g.channels(); ++c) {
      double value = sum[static_cast<std::size_t>(pixel * g.channels() + c)];
      if (p.add) value += static_cast<double>(p.add[pixel * g.c + c]);
      detail::reference::joined(p.dx, p.dx2, g, pixel, c) = static_cast<T>(value);
    }
}

template <class T>
void launch(const Reference&, const Conv2dBackwardWeight<T>& p) {
  const Conv2dGeometry& g = p.shape;
  std::vector<double> sum(static_cast<std::size_t>(std::int64_t{g.cout} * g.taps() * g.channels()), 0.0);
  detail::reference::conv2d_for_each_tap(g, [&](std::int64_t to, std::int64_t from, int tap) {
    for (int o = 0; o < g.cout; ++o)
      for (int c = 0; c < g.channels(); ++c)
        sum[static_cast<std::size_t>((std::int64_t{o} * g.taps() + tap) * g.channels() + c)] +=
            static_cast<double>(p.dy[to * g.cout + o]) *
            static_cast<double>(detail::reference::joined(p.x, p.x2, g, from, c));
  });
  for (std::size_t i = 0; i < sum.size(); ++i)
    p.dweight[i] = static_cast<Accumulator<T>>(p.dweight[i] + sum[i]);
  if (p.dbias) detail::reference::add_column_sums(p.dy, g.pixels(), g.cout, p.dbias);
}

// Reference reads weights as they are.
template <class T>
void launch(const Reference&, const Conv2dPrepare<T>&) {}

}  // namespace ddpm
