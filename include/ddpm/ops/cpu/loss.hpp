// SPDX-License-Identifier: MIT
// Mean squared error in one pass. Math and parameters: ddpm/ops/loss.hpp.
// Chunks of fixed size are summed in float lanes, then lanes and chunks in double and in order.
#pragma once

#include <algorithm>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/cpu/noise.hpp>
#include <ddpm/ops/cpu/simd.hpp>
#include <ddpm/ops/loss.hpp>

namespace ddpm {

namespace detail::cpu {

constexpr std::int64_t sum_chunk = 4096;

template <bool Gradient>
struct MseLeaf {
  const float* prediction;
  const float* target;
  float* dprediction;
  float factor;  // 2 weight / count
  std::int64_t count;
  double* sum;  // of the squared differences

  template <class V>
  [[gnu::always_inline]] static void run(const MseLeaf& p) {
    Chunk<V> chunk{p, Floats<V>{}};
    sweep<V>(chunk, p.count);
    *p.sum = sum_of_lanes(chunk.squares);
  }

 private:
  template <class Vector>
  struct Chunk {
    const MseLeaf& p;
    Floats<Vector> squares;

    template <class V, class Lanes>
    [[gnu::always_inline]] void step(std::int64_t i, const Lanes& lanes) {
      Floats<V> a, b;
      lanes.load(a, p.prediction + i);
      lanes.load(b, p.target + i);
      a -= b;
      squares += a * a;
      if constexpr (Gradient) {
        a *= p.factor;
        lanes.store(p.dprediction + i, a);
      }
    }
  };
};

}  // namespace detail::cpu

inline void launch(const Cpu&, const MseLoss<float>& p) {
  using namespace detail::cpu;
  const std::int64_t chunks = (p.per_sample + sum_chunk - 1) / sum_chunk;
  const double count = static_cast<double>(p.n) * static_cast<double>(p.per_sample);
  struct ChunkSums {};
  double* sums = thread_scratch<ChunkSums, double>(static_cast<std::size_t>(p.n * chunks));
  parallel_for(p.n * chunks, [&](std::int64_t i) {
    const std::int64_t n = i / chunks, first = i % chunks * sum_chunk, at = n * p.per_sample + first;
    const std::int64_t size = std::min(sum_chunk, p.per_sample - first);
    const double weight = p.weight ? static_cast<double>(p.weight[n]) : 1.0;
    const auto factor = static_cast<float>(2 * weight / count);
    alignas(64) float noise[sum_chunk];
    if (!p.target) {
      RandomPosition position = p.position;
      position.sample += static_cast<std::uint64_t>(n);
      draw_normals(position, first, size, noise);
    }
    const float* const target = p.target ? p.target + at : noise;
    if (p.dprediction)
      run_leaf<MseLeaf<true>>(
          MseLeaf<true>{p.prediction + at, target, p.dprediction + at, factor, size, sums + i});
    else
      run_leaf<MseLeaf<false>>(MseLeaf<false>{p.prediction + at, target, nullptr, factor, size, sums + i});
    sums[i] *= weight;
  });
  double loss = 0;
  for (std::int64_t i = 0; i < p.n * chunks; ++i) loss += sums[i];
  *p.loss = static_cast<float>(loss / count);
}

}  // namespace ddpm
