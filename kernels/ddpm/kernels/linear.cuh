// SPDX-License-Identifier: MIT
// Linear layer, forward and backward.  Math and parameters: ddpm/ops/linear.hpp.
// Algorithm: that of a 1x1 convolution of M pixels, conv2d.cuh. Cost: the multiplications of the definition;
// reads x once per tile of columns and the weight once per tile of rows.  Bound: FFMA, mma.sync for bf16 and TF32.
#pragma once

#include <limits>
#include <utility>

#include <ddpm/core/error.hpp>
#include <ddpm/kernels/conv2d.cuh>
#include <ddpm/ops/linear.hpp>

namespace ddpm::kernels {

// All rows of x are one line of pixels, which is never left in the middle of a tile.
template <class Params>
Conv2dGeometry conv2d_of_linear(const Params& p) {
  constexpr int most = std::numeric_limits<int>::max();
  check(p.m <= most, "linear: x has ", p.m, " rows, the kernels take at most ", most);
  Conv2dGeometry g = linear_geometry(p.m, p.in, p.out);
  std::swap(g.h, g.w);
  std::swap(g.p, g.q);
  return g;
}

}  // namespace ddpm::kernels

namespace ddpm {

template <GpuLike D, class T>
void launch(const D& device, const LinearForward<T>& p) {
  launch(device, Conv2dForward<T>{.shape = kernels::conv2d_of_linear(p),
                                  .x = p.x,
                                  .x2 = nullptr,
                                  .weight = p.weight,
                                  .prepared = p.prepared,
                                  .bias = p.bias,
                                  .add = nullptr,
                                  .residual = p.residual,
                                  .scale = p.scale,
                                  .y = p.y});
}

template <GpuLike D, class T>
void launch(const D& device, const LinearBackwardData<T>& p) {
  launch(device, Conv2dBackwardData<T>{.shape = kernels::conv2d_of_linear(p),
                                       .dy = p.dy,
                                       .weight = p.weight,
                                       .prepared = p.prepared,
                                       .dx = p.dx,
                                       .dx2 = nullptr,
                                       .add = p.add});
}

template <GpuLike D, class T>
void launch(const D& device, const LinearBackwardWeight<T>& p) {
  launch(device, Conv2dBackwardWeight<T>{.shape = kernels::conv2d_of_linear(p),
                                         .x = p.x,
                                         .x2 = nullptr,
                                         .dy = p.dy,
                                         .dweight = p.dweight,
                                         .dbias = p.dbias});
}

}  // namespace ddpm
