// SPDX-License-Identifier: MIT
// Ops of elements, random numbers, reductions and the optimizer, for ddpm::compiled.
#include <ddpm/kernels/activation.cuh>
#include <ddpm/kernels/adamw.cuh>
#include <ddpm/kernels/denoising.cuh>
#include <ddpm/kernels/elementwise.cuh>
#include <ddpm/kernels/embedding.cuh>
#include <ddpm/kernels/loss.cuh>
#include <ddpm/kernels/noising.cuh>
#include <ddpm/kernels/reduce.cuh>
#include <ddpm/kernels/resample.cuh>

#include <ddpm/compiled/run.cuh>

namespace ddpm::compiled {

template void run(const Cuda&, const AddTo<float>&);
template void run(const Cuda&, const AddTo<bf16>&);
template void run(const Cuda&, const Affine<float>&);
template void run(const Cuda&, const Affine<bf16>&);
template void run(const Cuda&, const Dropout<float>&);
template void run(const Cuda&, const Dropout<bf16>&);
template void run(const Cuda&, const Concat<float>&);
template void run(const Cuda&, const Concat<bf16>&);
template void run(const Cuda&, const Split<float>&);
template void run(const Cuda&, const Split<bf16>&);
template void run(const Cuda&, const SiluForward<float>&);
template void run(const Cuda&, const SiluForward<bf16>&);
template void run(const Cuda&, const SiluBackward<float>&);
template void run(const Cuda&, const SiluBackward<bf16>&);
template void run(const Cuda&, const SoftmaxForward<float>&);
template void run(const Cuda&, const SoftmaxForward<bf16>&);
template void run(const Cuda&, const SoftmaxBackward<float>&);
template void run(const Cuda&, const SoftmaxBackward<bf16>&);
template void run(const Cuda&, const TimestepEmbedding<float>&);
template void run(const Cuda&, const TimestepEmbedding<bf16>&);
template void run(const Cuda&, const ClassEmbedding<float>&);
template void run(const Cuda&, const ClassEmbedding<bf16>&);
template void run(const Cuda&, const ClassEmbeddingBackward<float>&);
template void run(const Cuda&, const ClassEmbeddingBackward<bf16>&);
template void run(const Cuda&, const FillNormal<float>&);
template void run(const Cuda&, const FillNormal<bf16>&);
template void run(const Cuda&, const Noising<float>&);
template void run(const Cuda&, const Noising<bf16>&);
template void run(const Cuda&, const Denoising<float>&);
template void run(const Cuda&, const Denoising<bf16>&);
template void run(const Cuda&, const MseLoss<float>&);
template void run(const Cuda&, const MseLoss<bf16>&);
template void run(const Cuda&, const UpsampleForward<float>&);
template void run(const Cuda&, const UpsampleForward<bf16>&);
template void run(const Cuda&, const UpsampleBackward<float>&);
template void run(const Cuda&, const UpsampleBackward<bf16>&);
template void run(const Cuda&, const Cast<float, bf16>&);
template void run(const Cuda&, const Cast<bf16, float>&);
template void run(const Cuda&, const DrawTimesteps&);
template void run(const Cuda&, const BeginStep<float>&);
template void run(const Cuda&, const SquaredNorm<float>&);
template void run(const Cuda&, const AdamWUpdate<float>&);
template void run(const Cuda&, const EmaUpdate<float>&);

}  // namespace ddpm::compiled
