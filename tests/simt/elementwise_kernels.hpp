// SPDX-License-Identifier: MIT
// Small pointwise ops and embeddings on CudaSim. Pointers in the parameters are to its memory.
#pragma once

#include <ddpm/ops/denoising.hpp>
#include <ddpm/ops/elementwise.hpp>
#include <ddpm/ops/embedding.hpp>
#include <ddpm/ops/noising.hpp>

namespace ddpm::simt::kernels {

// Not an op: what the kernels draw for the first `blocks` quads of n samples.
struct RandomWords {
  std::uint32_t* word;  // [N, 4 * blocks]
  RandomPosition position;
  int n;
  std::int64_t blocks;
};

// Params: AddTo, Affine, Dropout, Concat, Split, TimestepEmbedding, ClassEmbedding and ClassEmbeddingBackward
// of float and bf16; Cast between the two; RandomWords; FillNormal and Noising of float.
template <class Params>
void run(const Params& params);

}  // namespace ddpm::simt::kernels
