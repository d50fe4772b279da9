// SPDX-License-Identifier: MIT
#include "group_norm_kernels.hpp"

#include <ddpm/kernels/group_norm.cuh>

#include "cuda_sim.hpp"

namespace ddpm::simt::kernels {

template <class Params>
void run(const Params& params) {
  launch(CudaSim{}, params);
}

template <class T>
void run_streaming(const GroupNormForward<T>& params) {
  constexpr int width = ddpm::kernels::pack_width<T>;
  if (ddpm::kernels::takes_packs<width>(params, params.x, params.x2, params.y))
    ddpm::kernels::launch_group_norm_streaming<width>(CudaSim{}, params);
  else
    ddpm::kernels::launch_group_norm_streaming<1>(CudaSim{}, params);
}

template <class T>
void run_streaming(const GroupNormBackward<T>& p) {
  constexpr int width = ddpm::kernels::pack_width<T>;
  if (ddpm::kernels::takes_packs<width>(p, p.dy, p.x, p.x2, p.add, p.add2, p.also, p.dx, p.dx2))
    ddpm::kernels::launch_group_norm_backward_streaming<width>(CudaSim{}, p);
  else
    ddpm::kernels::launch_group_norm_backward_streaming<1>(CudaSim{}, p);
}

template void run(const GroupNormForward<float>&);
template void run(const GroupNormForward<bf16>&);
template void run(const GroupNormBackward<float>&);
template void run(const GroupNormBackward<bf16>&);
template void run_streaming(const GroupNormForward<float>&);
template void run_streaming(const GroupNormForward<bf16>&);
template void run_streaming(const GroupNormBackward<float>&);
template void run_streaming(const GroupNormBackward<bf16>&);

}  // namespace ddpm::simt::kernels
