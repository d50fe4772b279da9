// SPDX-License-Identifier: MIT
// AdamW and EMA, each one pass over the buffers. Math and parameters: ddpm/ops/adamw.hpp.
// Bound by memory: 5 reads and 4 writes of each element, and one of its bf16 copy.
#pragma once

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/adamw.hpp>
#include <ddpm/ops/cpu/simd.hpp>

namespace ddpm {

namespace detail::cpu {

template <bool Averaged>
struct AdamWLeaf {
  float* value;
  const float* gradient;
  float* first;
  float* second;
  float* average;
  float clip, keep_first, take_first, keep_second, take_second;
  float decay, rate, correction, eps;  // correction = 1 / (1 - beta2^step)
  float keep_average, take_average;
  std::int64_t count;

  template <class V>
  [[gnu::always_inline]] static void run(const AdamWLeaf& p) {
    sweep<V>(p, p.count);
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) const {
    Floats<V> g, m, v, w, root;
    lanes.load(g, gradient + i);
    lanes.load(m, first + i);
    lanes.load(v, second + i);
    lanes.load(w, value + i);
    g *= clip;
    m = m * keep_first + g * take_first;
    v = v * keep_second + (g * take_second) * g;
    sqrt_lanes<V>(root, v * correction);
    w = w * decay - m * rate / (root + eps);
    lanes.store(first + i, m);
    lanes.store(second + i, v);
    lanes.store(value + i, w);
    if constexpr (Averaged) {
      Floats<V> a;
      lanes.load(a, average + i);
      a = a * keep_average + w * take_average;
      lanes.store(average + i, a);
    }
  }
};

struct EmaLeaf {
  const float* value;
  float* average;
  float keep, take;
  std::int64_t count;

  template <class V>
  [[gnu::always_inline]] static void run(const EmaLeaf& p) {
    sweep<V>(p, p.count);
  }
  template <class V, class Lanes>
  [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) const {
    Floats<V> a, w;
    lanes.load(a, average + i);
    lanes.load(w, value + i);
    a = a * keep + w * take;
    lanes.store(average + i, a);
  }
};

template <bool Averaged>
void adamw_update(const AdamWUpdate<float>& p) {
  const AdamWOptions& o = p.options;
  const AdamWStep& s = *p.step;
  AdamWLeaf<Averaged> leaf{};
  leaf.clip = p.squared_norm
                  ? static_cast<float>(clip_factor(static_cast<double>(*p.squared_norm), o.grad_clip))
                  : 1.0f;
  leaf.keep_first = static_cast<float>(o.beta1);
  leaf.take_first = static_cast<float>(1 - o.beta1);
  leaf.keep_second = static_cast<float>(o.beta2);
  leaf.take_second = static_cast<float>(1 - o.beta2);
  leaf.decay = static_cast<float>(s.keep);
  leaf.rate = static_cast<float>(s.step_size);
  leaf.correction = static_cast<float>(s.root_scale * s.root_scale);
  leaf.eps = static_cast<float>(o.eps);
  leaf.keep_average = static_cast<float>(s.ema_decay);
  leaf.take_average = static_cast<float>(1 - s.ema_decay);
  parallel_ranges(p.count, pointwise_grain, [&](std::int64_t first, std::int64_t last) {
    AdamWLeaf<Averaged> part = leaf;
    part.value = p.value + first;
    part.gradient = p.gradient + first;
    part.first = p.first + first;
    part.second = p.second + first;
    if constexpr (Averaged) part.average = p.average + first;
    part.count = last - first;
    run_leaf<AdamWLeaf<Averaged>>(part);
    if (p.copy)  // while the range is in the cache
      for (std::int64_t i = first; i < last; ++i) p.copy[i] = static_cast<bf16>(p.value[i]);
  });
}

}  // namespace detail::cpu

inline void launch(const Cpu&, const AdamWUpdate<float>& p) {
  p.average ? detail::cpu::adamw_update<true>(p) : detail::cpu::adamw_update<false>(p);
}

inline void launch(const Cpu&, const EmaUpdate<float>& p) {
  const auto keep = static_cast<float>(*p.decay), take = static_cast<float>(1 - *p.decay);
  parallel_ranges(p.count, detail::cpu::pointwise_grain, [&](std::int64_t first, std::int64_t last) {
    detail::cpu::run_leaf<detail::cpu::EmaLeaf>(
        detail::cpu::EmaLeaf{p.value + first, p.average + first, keep, take, last - first});
  });
}

}  // namespace ddpm
