// SPDX-License-Identifier: MIT
// Random words and normals by the chunk, for the ops that draw noise inside.
#pragma once

#include <algorithm>

#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/cpu/simd.hpp>

namespace ddpm::detail::cpu {

// Elements per task of an op that may draw noise: a multiple of 4 and of every vector width, small enough for
// the first-level cache.
constexpr int noise_chunk = 2048;

// Calls body(sample, first element, count) for the chunks of every sample, in parallel.
template <class Body>
void for_each_noise_chunk(int n, std::int64_t per_sample, Body&& body) {
  const std::int64_t chunks = (per_sample + noise_chunk - 1) / noise_chunk;
  parallel_for(n * chunks, [&](std::int64_t i) {
    const std::int64_t first = i % chunks * noise_chunk;
    body(static_cast<int>(i / chunks), first, std::min<std::int64_t>(noise_chunk, per_sample - first));
  });
}

// Elements [first, first + count) of the sample at `position`; first is a multiple of 4, and `out` has room
// for count rounded up to 4. Only the chunk's own blocks are drawn.
inline void draw_words(const RandomPosition& position, std::int64_t first, std::int64_t count,
                       std::uint32_t* out) {
  run_leaf<DrawWords>(
      DrawWords{position, static_cast<std::uint32_t>(first / 4), static_cast<int>((count + 3) / 4), out});
}
inline void draw_normals(const RandomPosition& position, std::int64_t first, std::int64_t count, float* out) {
  run_leaf<DrawNormals>(
      DrawNormals{position, static_cast<std::uint32_t>(first / 4), static_cast<int>((count + 3) / 4), out});
}

}  // namespace ddpm::detail::cpu
