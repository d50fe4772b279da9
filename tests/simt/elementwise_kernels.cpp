// SPDX-License-Identifier: MIT
#include "elementwise_kernels.hpp"

#include <ddpm/kernels/denoising.cuh>
#include <ddpm/kernels/elementwise.cuh>
#include <ddpm/kernels/embedding.cuh>
#include <ddpm/kernels/noising.cuh>

#include "cuda_sim.hpp"

namespace ddpm::simt::kernels {

static __global__ void random_words_kernel(const __grid_constant__ RandomWords p) {
  using namespace ddpm::kernels;
  const auto own = SampleQuad::of_thread(quad * p.blocks);
  if (own.count == 0) return;
  for (int n = static_cast<int>(blockIdx.y); n < p.n; n += static_cast<int>(gridDim.y)) {
    const PhiloxWords words = quad_words(p.position, n, own);
    for (int i = 0; i < quad; ++i) p.word[n * quad * p.blocks + own.first + i] = words.word[i];
  }
}

void launch(const CudaSim& device, const RandomWords& p) {
  constexpr int threads = 64;
  const dim3 grid = ddpm::kernels::quad_grid(p.n, ddpm::kernels::quad * p.blocks, threads);
  ddpm::kernels::launch_kernel(device, grid, threads, random_words_kernel, p);
}

template <class Params>
void run(const Params& params) {
  launch(CudaSim{}, params);
}

template void run(const AddTo<float>&);
template void run(const AddTo<bf16>&);
template void run(const Cast<float, bf16>&);
template void run(const Cast<bf16, float>&);
template void run(const Affine<float>&);
template void run(const Affine<bf16>&);
template void run(const Dropout<float>&);
template void run(const Dropout<bf16>&);
template void run(const Concat<float>&);
template void run(const Concat<bf16>&);
template void run(const Split<float>&);
template void run(const Split<bf16>&);
template void run(const TimestepEmbedding<float>&);
template void run(const TimestepEmbedding<bf16>&);
template void run(const ClassEmbedding<float>&);
template void run(const ClassEmbedding<bf16>&);
template void run(const ClassEmbeddingBackward<float>&);
template void run(const ClassEmbeddingBackward<bf16>&);
template void run(const RandomWords&);
template void run(const FillNormal<float>&);
template void run(const Noising<float>&);

}  // namespace ddpm::simt::kernels
