// SPDX-License-Identifier: MIT
// Embeddings by plain loops. Math and parameters: ddpm/ops/embedding.hpp.
#pragma once

#include <ddpm/ops/embedding.hpp>

namespace ddpm {

template <class T>
void launch(const Reference&, const TimestepEmbedding<T>& p) {
  const int half = p.dim / 2;
  for (int n = 0; n < p.n; ++n) {
    T* y = p.y + std::int64_t{n} * p.dim;
    for (int i = 0; i < half; ++i) {
      using Real = Accumulator<T>;
      const auto angle =
          static_cast<Real>(p.t[n]) * timestep_frequency<Real>(i, half, p.freq_shift);
      const double sine = std::sin(static_cast<double>(angle)), cosine = std::cos(static_cast<double>(angle));
      y[i] = static_cast<T>(p.flip_sin_to_cos ? cosine : sine);
      y[half + i] = static_cast<T>(p.flip_sin_to_cos ? sine : cosine);
    }
    if (p.dim % 2) y[p.dim - 1] = T(0);
  }
}

template <class T>
void launch(const Reference&, const ClassEmbedding<T>& p) {
  for (int n = 0; n < p.n; ++n)
    for (int i = 0; i < p.dim; ++i) {
      T& y = p.y[std::int64_t{n} * p.dim + i];
      y = static_cast<T>(y + p.table[std::int64_t{p.label[n]} * p.dim + i]);
    }
}

template <class T>
void launch(const Reference&, const ClassEmbeddingBackward<T>& p) {
  for (int n = 0; n < p.n; ++n)
    for (int i = 0; i < p.dim; ++i)
      p.dtable[std::int64_t{p.label[n]} * p.dim + i] +=
          static_cast<Accumulator<T>>(p.dy[std::int64_t{n} * p.dim + i]);
}

}  // namespace ddpm
