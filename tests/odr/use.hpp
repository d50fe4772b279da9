// SPDX-License-Identifier: MIT
// What each of the two translation units does: the same work, through every umbrella of the library.
#pragma once

#include <ddpm/ddpm.hpp>
#include <ddpm/io.hpp>
#include <ddpm/version.hpp>

#include <vector>

// SiLU of 1, 2, 3 on a device.
template <ddpm::Device D>
std::vector<float> use() {
  const D device;
  const std::vector<float> host{1, 2, 3};
  const ddpm::Tensor<float, D> x(device, {3}, host);
  ddpm::silu(x, x);
  return x.to_host();
}

// What a translation unit sees: its results, and the pool that its tensors live in.
struct Seen {
  std::vector<float> cpu, reference;
  const void* pool;
};

inline Seen look() { return {use<ddpm::Cpu>(), use<ddpm::Reference>(), &ddpm::HostPool::instance()}; }

Seen look_from_second();
