// SPDX-License-Identifier: MIT
// Pointwise ops, vectorised. Math and parameters: ddpm/ops/elementwise.hpp.
#pragma once

#include <algorithm>
#include <cmath>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/cpu/noise.hpp>
#include <ddpm/ops/cpu/simd.hpp>
#include <ddpm/ops/elementwise.hpp>

namespace ddpm {

namespace detail::cpu {

struct AddToLeaf {
  const float* x;
  float* y;
  std::int64_t count;

  template <class V>
  [[gnu::always_inline]] static void run(const AddToLeaf& p) {
    sweep<V>(p, p.count);
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) const {
    Floats<V> a, b;
    lanes.load(a, x + i);
    lanes.load(b, y + i);
    a += b;
    lanes.store(y + i, a);
  }
};

struct AffineLeaf {
  const float* x;
  float* y;
  float a, b;
  std::int64_t count;

  template <class V>
  [[gnu::always_inline]] static void run(const AffineLeaf& p) {
    sweep<V>(p, p.count);
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) const {
    Floats<V> v;
    lanes.load(v, x + i);
    v = v * a + b;
    lanes.store(y + i, v);
  }
};

struct DropoutLeaf {
  const float* x;
  float* y;
  const std::uint32_t* word;  // readable to a whole vector
  std::uint32_t threshold;    // the least word that keeps an element
  float scale;
  std::int64_t count;

  template <class V>
  [[gnu::always_inline]] static void run(const DropoutLeaf& p) {
    sweep<V>(p, p.count);
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) const {
    Floats<V> v;
    Words<V> w;
    lanes.load(v, x + i);
    load(w, word + i);
    v = w >= threshold ? v * scale : Floats<V>{};
    lanes.store(y + i, v);
  }
};

}  // namespace detail::cpu

inline void launch(const Cpu&, const AddTo<float>& p) {
  parallel_ranges(p.count, detail::cpu::pointwise_grain, [&](std::int64_t first, std::int64_t last) {
    detail::cpu::run_leaf<detail::cpu::AddToLeaf>(
        detail::cpu::AddToLeaf{p.x + first, p.y + first, last - first});
  });
}

namespace detail::cpu {
template <class From, class To>
void cast_range(const From* from, To* to, std::int64_t count) {
  parallel_ranges(count, pointwise_grain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) to[i] = static_cast<To>(from[i]);
  });
}
}  // namespace detail::cpu

template <class From, class To>
void launch(const Cpu&, const Cast<From, To>& p) {
  detail::cpu::cast_range(p.x, p.y, p.count);
}

inline void launch(const Cpu&, const Affine<float>& p) {
  parallel_ranges(p.count, detail::cpu::pointwise_grain, [&](std::int64_t first, std::int64_t last) {
    detail::cpu::run_leaf<detail::cpu::AffineLeaf>(
        detail::cpu::AffineLeaf{p.x + first, p.y + first, p.a, p.b, last - first});
  });
}

inline void launch(const Cpu&, const Dropout<float>& p) {
  using namespace detail::cpu;
  const double threshold = std::ceil(p.p * 0x1p32);  // 2^32 where no word keeps
  const bool drops_all = threshold >= 0x1p32;
  const DropoutLeaf leaf{nullptr,
                         nullptr,
                         nullptr,
                         drops_all ? 0u : static_cast<std::uint32_t>(threshold),
                         drops_all ? 0.0f : static_cast<float>(1 / (1 - p.p)),
                         0};
  for_each_noise_chunk(p.n, p.per_sample, [&](int n, std::int64_t first, std::int64_t count) {
    alignas(64) std::uint32_t words[noise_chunk];
    RandomPosition position = p.position;
    position.sample += static_cast<std::uint64_t>(n);
    draw_words(position, first, count, words);
    DropoutLeaf part = leaf;
    part.x = p.x + n * p.per_sample + first;
    part.y = p.y + n * p.per_sample + first;
    part.word = words;
    part.count = count;
    run_leaf<DropoutLeaf>(part);
  });
}

inline void launch(const Cpu&, const Concat<float>& p) {
  parallel_ranges(p.rows, 256, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t row = first; row < last; ++row)
      std::copy_n(p.x2 + row * p.c2, p.c2, std::copy_n(p.x + row * p.c, p.c, p.y + row * (p.c + p.c2)));
  });
}

inline void launch(const Cpu&, const Split<float>& p) {
  parallel_ranges(p.rows, 256, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t row = first; row < last; ++row) {
      const float* y = p.y + row * (p.c + p.c2);
      std::copy_n(y, p.c, p.x + row * p.c);
      std::copy_n(y + p.c, p.c2, p.x2 + row * p.c2);
    }
  });
}

}  // namespace ddpm
