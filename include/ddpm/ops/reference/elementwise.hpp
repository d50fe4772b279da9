// SPDX-License-Identifier: MIT
// Pointwise ops by plain loops. Math and parameters: ddpm/ops/elementwise.hpp.
#pragma once

#include <ddpm/ops/elementwise.hpp>

namespace ddpm {

template <class T>
void launch(const Reference&, const AddTo<T>& p) {
  for (std::int64_t i = 0; i < p.count; ++i) p.y[i] = static_cast<T>(p.y[i] + p.x[i]);
}

template <class From, class To>
void launch(const Reference&, const Cast<From, To>& p) {
  for (std::int64_t i = 0; i < p.count; ++i) p.y[i] = static_cast<To>(p.x[i]);
}

template <class T>
void launch(const Reference&, const Affine<T>& p) {
  for (std::int64_t i = 0; i < p.count; ++i) p.y[i] = static_cast<T>(p.a * p.x[i] + p.b);
}

template <class T>
void launch(const Reference&, const Dropout<T>& p) {
  for (int n = 0; n < p.n; ++n) {
    RandomPosition position = p.position;
    position.sample += static_cast<std::uint64_t>(n);
    for (std::int64_t i = 0; i < p.per_sample; ++i) {
      const std::uint32_t word = random_words(position, static_cast<std::uint32_t>(i / 4)).word[i % 4];
      const std::int64_t at = n * p.per_sample + i;
      p.y[at] = dropout_keeps(word, p.p) ? static_cast<T>(static_cast<double>(p.x[at]) / (1 - p.p)) : T(0);
    }
  }
}

template <class T>
void launch(const Reference&, const Concat<T>& p) {
  for (std::int64_t row = 0; row < p.rows; ++row)
    for (int c = 0; c < p.c + p.c2; ++c)
      p.y[row * (p.c + p.c2) + c] = c < p.c ? p.x[row * p.c + c] : p.x2[row * p.c2 + c - p.c];
}

template <class T>
void launch(const Reference&, const Split<T>& p) {
  for (std::int64_t row = 0; row < p.rows; ++row)
    for (int c = 0; c < p.c + p.c2; ++c)
      (c < p.c ? p.x[row * p.c + c] : p.x2[row * p.c2 + c - p.c]) = p.y[row * (p.c + p.c2) + c];
}

}  // namespace ddpm
