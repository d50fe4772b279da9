// SPDX-License-Identifier: MIT
// Group normalisation by plain loops. Math and parameters: ddpm/ops/group_norm.hpp.
#pragma once

#include <vector>

#include <ddpm/ops/group_norm.hpp>

namespace ddpm {

namespace detail::reference {

// Element (n, pixel, channel) of x followed by x2.
template <class T>
T& joined(T* x, T* x2, const GroupNormGeometry& g, int n, int pixel, int channel) {
  const std::int64_t row = std::int64_t{n} * g.hw + pixel;
  return channel < g.c ? x[row * g.c + channel] : x2[row * g.c2 + channel - g.c];
}

}  // namespace detail::reference

template <class T>
void launch(const Reference&, const GroupNormForward<T>& p) {
  const GroupNormGeometry& s = p.shape;
  const int per_group = s.channels_per_group();
  for (int n = 0; n < s.n; ++n)
    for (int group = 0; group < s.groups; ++group) {
      const double count = double(s.hw) * per_group;
      const int first = group * per_group, last = first + per_group;
      double sum = 0, squares = 0;
      const auto x = [&](int pixel, int c) {
        return static_cast<double>(detail::reference::joined(p.x, p.x2, s, n, pixel, c));
      };
      for (int pixel = 0; pixel < s.hw; ++pixel)
        for (int c = first; c < last; ++c) sum += x(pixel, c);
      const double mean = sum / count;
      for (int pixel = 0; pixel < s.hw; ++pixel)
        for (int c = first; c < last; ++c) squares += (x(pixel, c) - mean) * (x(pixel, c) - mean);
      const double rstd = 1 / std::sqrt(squares / count + static_cast<double>(p.eps));
      p.mean[n * s.groups + group] = static_cast<Accumulator<T>>(mean);
      p.rstd[n * s.groups + group] = static_cast<Accumulator<T>>(rstd);
      for (int pixel = 0; pixel < s.hw; ++pixel)
        for (int c = first; c < last; ++c) {
          double v =
              static_cast<double>(p.gamma[c]) * (x(pixel, c) - mean) * rstd + static_cast<double>(p.beta[c]);
          if (p.scale_shift) {
            const T* scale = p.scale_shift + std::int64_t{n} * 2 * s.channels();
            v = v * (1 + static_cast<double>(scale[c])) + static_cast<double>(scale[s.channels() + c]);
          }
          p.y[(std::int64_t{n} * s.hw + pixel) * s.channels() + c] =
              static_cast<T>(p.activation == Activation::silu ? silu_value(v) : v);
        }
    }
}

template <class T>
void launch(const Reference&, const GroupNormBackward<T>& p) {
  const GroupNormGeometry& s = p.shape;
  const int channels = s.channels(), per_group = s.channels_per_group();
  std::vector<double> dgamma(static_cast<std::size_t>(channels)), dbeta(static_cast<std::size_t>(channels));
  std::vector<double> g(static_cast<std::size_t>(s.hw) *
                        static_cast<std::size_t>(per_group));  // gamma * du of a group
  for (int n = 0; n < s.n; ++n)
    for (int group = 0; group < s.groups; ++group) {
      const double mean = static_cast<double>(p.mean[n * s.groups + group]);
      const double rstd = static_cast<double>(p.rstd[n * s.groups + group]);
      const auto normalised = [&](int pixel, int c) {
        return (static_cast<double>(detail::reference::joined(p.x, p.x2, s, n, pixel, c)) - mean) * rstd;
      };
      double sum = 0, sum_normalised = 0;
      for (int i = 0; i < per_group; ++i) {
        const int c = group * per_group + i;
        const auto index = static_cast<std::size_t>(c);
        const std::int64_t at = std::int64_t{n} * 2 * channels + c;
        const double scale = p.scale_shift ? 1 + static_cast<double>(p.scale_shift[at]) : 1.0;
        const double shift = p.scale_shift ? static_cast<double>(p.scale_shift[at + channels]) : 0.0;
        double dscale = 0, dshift = 0;
        for (int pixel = 0; pixel < s.hw; ++pixel) {
          const double x = normalised(pixel, c);
          const double u = static_cast<double>(p.gamma[c]) * x + static_cast<double>(p.beta[c]);
          double dv = static_cast<double>(p.dy[(std::int64_t{n} * s.hw + pixel) * channels + c]);
          if (p.activation == Activation::silu) dv *= silu_slope(u * scale + shift);
          dscale += dv * u;
          dshift += dv;
          dgamma[index] += dv * scale * x;
          dbeta[index] += dv * scale;
          const double weighted = static_cast<double>(p.gamma[c]) * dv * scale;
          g[static_cast<std::size_t>(pixel * per_group + i)] = weighted;
          sum += weighted;
          sum_normalised += weighted * x;
        }
        if (p.dscale_shift) {
          p.dscale_shift[at] = static_cast<T>(dscale);
          p.dscale_shift[at + channels] = static_cast<T>(dshift);
        }
      }
      const double count = double(s.hw) * per_group;
      for (int i = 0; i < per_group; ++i) {
        const int c = group * per_group + i;
        double dx_sum = 0;
        for (int pixel = 0; pixel < s.hw; ++pixel) {
          const double weighted = g[static_cast<std::size_t>(pixel * per_group + i)];
          double dx = rstd * (weighted - sum / count - normalised(pixel, c) * sum_normalised / count);
          if (c < s.c ? p.add != nullptr : p.add2 != nullptr)
            dx += static_cast<double>(detail::reference::joined(p.add, p.add2, s, n, pixel, c));
          if (p.also && c < s.c)
            dx += static_cast<double>(p.also[(std::int64_t{n} * s.hw + pixel) * s.c + c]);
          detail::reference::joined(p.dx, p.dx2, s, n, pixel, c) = static_cast<T>(dx);
          dx_sum += dx;
        }
        if (p.dx_sums) p.dx_sums[std::int64_t{n} * channels + c] = static_cast<T>(dx_sum);
      }
    }
  for (int c = 0; c < channels; ++c) {
    p.dgamma[c] = static_cast<Accumulator<T>>(p.dgamma[c] + dgamma[static_cast<std::size_t>(c)]);
    p.dbeta[c] = static_cast<Accumulator<T>>(p.dbeta[c] + dbeta[static_cast<std::size_t>(c)]);
  }
}

}  // namespace ddpm
