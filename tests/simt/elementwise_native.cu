// SPDX-License-Identifier: MIT
// Compiles small pointwise ops and embeddings natively; never run.
#include <ddpm/core/cuda.hpp>
#include <ddpm/kernels/elementwise.cuh>
#include <ddpm/kernels/embedding.cuh>

namespace ddpm {

template <class T, class Other>
void launch_each_elementwise(const Cuda& device) {
  launch(device, AddTo<T>{});
  launch(device, Cast<T, Other>{});
  launch(device, Affine<T>{});
  launch(device, Dropout<T>{});
  launch(device, Concat<T>{});
  launch(device, Split<T>{});
  launch(device, TimestepEmbedding<T>{});
  launch(device, ClassEmbedding<T>{});
  launch(device, ClassEmbeddingBackward<T>{});
}

void launch_elementwise(const Cuda& device) {
  launch_each_elementwise<float, bf16>(device);
  launch_each_elementwise<bf16, float>(device);
}

}  // namespace ddpm
