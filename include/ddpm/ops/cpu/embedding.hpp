// SPDX-License-Identifier: MIT
// Embeddings. Math and parameters: ddpm/ops/embedding.hpp.
#pragma once

#include <algorithm>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/embedding.hpp>

namespace ddpm {

inline void launch(const Cpu&, const TimestepEmbedding<float>& p) {
  const int half = p.dim / 2;
  struct Frequencies {};
  float* frequency = thread_scratch<Frequencies>(static_cast<std::size_t>(half));
  for (int i = 0; i < half; ++i) frequency[i] = timestep_frequency<float>(i, half, p.freq_shift);
  parallel_ranges(p.n, 4, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t n = first; n < last; ++n) {
      float* y = p.y + n * p.dim;
      float *sine = p.flip_sin_to_cos ? y + half : y, *cosine = p.flip_sin_to_cos ? y : y + half;
      for (int i = 0; i < half; ++i) {
        const float angle = static_cast<float>(p.t[n]) * frequency[i];
        sine[i] = static_cast<float>(std::sin(static_cast<double>(angle)));
        cosine[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
      }
      if (p.dim % 2) y[p.dim - 1] = 0;
    }
  });
}

inline void launch(const Cpu&, const ClassEmbedding<float>& p) {
  parallel_ranges(p.n, 16, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t n = first; n < last; ++n)
      for (int i = 0; i < p.dim; ++i) p.y[n * p.dim + i] += p.table[std::int64_t{p.label[n]} * p.dim + i];
  });
}

// Samples may share a row, so the tasks share out the columns.
inline void launch(const Cpu&, const ClassEmbeddingBackward<float>& p) {
  parallel_ranges(p.dim, 64, [&](std::int64_t first, std::int64_t last) {
    for (int n = 0; n < p.n; ++n)
      for (std::int64_t i = first; i < last; ++i)
        p.dtable[std::int64_t{p.label[n]} * p.dim + i] += p.dy[std::int64_t{n} * p.dim + i];
  });
}

}  // namespace ddpm
