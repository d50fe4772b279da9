// SPDX-License-Identifier: MIT
// Linear layers on the host: a linear layer is a 1x1 convolution of M pixels. Math: ddpm/ops/linear.hpp.
#pragma once

#include <concepts>

#include <ddpm/ops/cpu/conv2d.hpp>
#include <ddpm/ops/linear.hpp>

namespace ddpm {

template <std::same_as<float> T>
void launch(const Cpu& device, const LinearForward<T>& p) {
  launch(device, Conv2dForward<T>{linear_geometry(p.m, p.in, p.out), p.x, nullptr, p.weight, p.prepared,
                                  p.bias, nullptr, p.residual, p.scale, p.y});
}

template <std::same_as<float> T>
void launch(const Cpu& device, const LinearBackwardData<T>& p) {
  launch(device, Conv2dBackwardData<T>{linear_geometry(p.m, p.in, p.out), p.dy, p.weight, p.prepared, p.dx,
                                       nullptr, p.add});
}

template <std::same_as<float> T>
void launch(const Cpu& device, const LinearBackwardWeight<T>& p) {
  launch(device,
         Conv2dBackwardWeight<T>{linear_geometry(p.m, p.in, p.out), p.x, nullptr, p.dy, p.dweight, p.dbias});
}

}  // namespace ddpm
