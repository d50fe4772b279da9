// SPDX-License-Identifier: MIT
// The kernels of convolutions and linear layers on CudaSim. Pointers in the parameters are to its memory.
#pragma once

#include <ddpm/kernels/block/mma_choice.hpp>
#include <ddpm/ops/conv2d.hpp>
#include <ddpm/ops/linear.hpp>

namespace ddpm::simt::kernels {

// Params: Conv2dForward, Conv2dBackwardData, Conv2dBackwardWeight, Conv2dPrepare, LinearForward,
// LinearBackwardData and LinearBackwardWeight of float and bf16.
template <class Params>
void run(const Params& params);

enum class Tile { wide, narrow };
using ddpm::kernels::MmaTile;

// The same with a device's FloatProducts.
template <class Params>
void run(FloatProducts products, const Params& params);

// With the tile given, whatever the shape. Params: Conv2dForward and Conv2dBackwardData of float and bf16.
template <class Params>
void run_with(Tile tile, const Params& params);
// And the pixels cut into as many parts.
template <class T>
void run_with(Tile tile, int parts, const Conv2dBackwardWeight<T>& params);

// The same on tensor cores. MmaTile::flat has no kernel for weights.
template <template <class> class Op, class T>
void run_with(MmaTile tile, const Op<T>& params);
template <class T>
void run_with(MmaTile tile, int parts, const Conv2dBackwardWeight<T>& params);

// Refuses what tensor cores cannot compute. Params: the three passes of bf16 and of float.
template <class Params>
void run_on_tensor_cores(FloatProducts products, const Params& params);
template <class Params>
void run_by_wgmma(FloatProducts products, const Params& params);
template <class Params>
void run_on_general_cores(FloatProducts products, const Params& params);

template <class T>
bool supports_mma(const Conv2dForward<T>& params);
template <class T>
bool gives_moments(FloatProducts products, const Conv2dGeometry& g);

// How many parts the kernels themselves choose.
int parts_of_pixels(const Conv2dGeometry& g, std::int64_t tiles);

}  // namespace ddpm::simt::kernels
