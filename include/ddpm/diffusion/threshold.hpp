// SPDX-License-Identifier: MIT
// Dynamic thresholding of the predicted image, Saharia et al. 2022 (arXiv 2205.11487), section 2.3.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <ddpm/ops/denoising.hpp>

namespace ddpm {

// Per image, s is the `ratio` quantile of |x0|, held within [1, largest], and x0 becomes clamp(x0, -s, s) /
// s.
struct DynamicThreshold {
  double ratio = 0;  // in [0, 1]; 0: no thresholding
  double largest = 1;
};

namespace detail {

// Interpolated linearly between neighbours, as torch.quantile does. Reorders the values, of which none is
// NaN.
inline double quantile(std::vector<double>& values, double ratio) {
  const double rank = ratio * static_cast<double>(values.size() - 1);
  const auto below = values.begin() + static_cast<std::ptrdiff_t>(rank);
  std::nth_element(values.begin(), below, values.end());
  const double weight = rank - std::floor(rank);
  return weight == 0 ? *below : std::lerp(*below, *std::min_element(below + 1, values.end()), weight);
}

// s for one image, of which x is x_t and m the model's output.
template <class Real, class X, class M>
double dynamic_bound(const DynamicThreshold& threshold, const DenoisingCoefficients<Real>& k,
                     const std::vector<X>& x, const std::vector<M>& m) {
  std::vector<double> magnitudes;
  magnitudes.reserve(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double x0 = std::abs(static_cast<double>(k.x0_from_x) * static_cast<double>(x[i]) +
                               static_cast<double>(k.x0_from_m) * static_cast<double>(m[i]));
    magnitudes.push_back(std::isnan(x0) ? std::numeric_limits<double>::infinity() : x0);
  }
  return std::min(std::max(quantile(magnitudes, threshold.ratio), 1.0), threshold.largest);
}

}  // namespace detail

}  // namespace ddpm
