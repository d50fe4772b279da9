// SPDX-License-Identifier: MIT
// Upsampling by plain loops. Math and parameters: ddpm/ops/resample.hpp.
#pragma once

#include <ddpm/ops/resample.hpp>

namespace ddpm {

template <class T>
void launch(const Reference&, const UpsampleForward<T>& p) {
  for (int n = 0; n < p.n; ++n)
    for (int i = 0; i < 2 * p.h; ++i)
      for (int j = 0; j < 2 * p.w; ++j)
        for (int c = 0; c < p.c; ++c)
          p.y[((std::int64_t{n} * 2 * p.h + i) * 2 * p.w + j) * p.c + c] =
              p.x[((std::int64_t{n} * p.h + i / 2) * p.w + j / 2) * p.c + c];
}

template <class T>
void launch(const Reference&, const UpsampleBackward<T>& p) {
  for (int n = 0; n < p.n; ++n)
    for (int i = 0; i < p.h; ++i)
      for (int j = 0; j < p.w; ++j)
        for (int c = 0; c < p.c; ++c) {
          double sum = 0;
          for (int k = 0; k < 4; ++k)
            sum += static_cast<double>(
                p.dy[((std::int64_t{n} * 2 * p.h + 2 * i + k / 2) * 2 * p.w + 2 * j + k % 2) * p.c + c]);
          p.dx[((std::int64_t{n} * p.h + i) * p.w + j) * p.c + c] = static_cast<T>(sum);
        }
}

}  // namespace ddpm
