// SPDX-License-Identifier: MIT
// Small pointwise ops.  Math and parameters: ddpm/ops/elementwise.hpp.
// Algorithm: four neighbouring elements per thread; dropout draws the words of a quad in registers;
// concatenation and split are two copies of rows, each by a warp per row.
// Cost: reads each operand once, writes once.  Bound: DRAM bandwidth.
#pragma once

#include <cmath>

#include <ddpm/kernels/block/quad.cuh>
#include <ddpm/kernels/block/reduce.cuh>
#include <ddpm/ops/elementwise.hpp>

namespace ddpm::kernels {

struct ElementwisePolicy {
  static constexpr int threads = 256;
};

template <class P, QuadAccess A, class T>
__global__ __launch_bounds__(P::threads) void add_to_kernel(const __grid_constant__ AddTo<T> p) {
  const auto own = SampleQuad::of_thread(p.count);
  if (own.count == 0) return;
  float x[quad] = {}, y[quad] = {};
  load_quad<A>(p.x + own.first, own.count, x);
  load_quad<A>(p.y + own.first, own.count, y);
  for (int i = 0; i < quad; ++i) y[i] += x[i];
  store_quad<A>(p.y + own.first, own.count, y);
}

template <class P, QuadAccess A, class From, class To>
__global__ __launch_bounds__(P::threads) void cast_kernel(const __grid_constant__ Cast<From, To> p) {
  const auto own = SampleQuad::of_thread(p.count);
  if (own.count == 0) return;
  float x[quad] = {};
  load_quad<A>(p.x + own.first, own.count, x);
  store_quad<A>(p.y + own.first, own.count, x);
}

template <class P, QuadAccess A, class T>
__global__ __launch_bounds__(P::threads) void affine_kernel(const __grid_constant__ Affine<T> p) {
  const auto own = SampleQuad::of_thread(p.count);
  if (own.count == 0) return;
  float x[quad] = {};
  load_quad<A>(p.x + own.first, own.count, x);
  for (float& value : x) value = p.a * value + p.b;
  store_quad<A>(p.y + own.first, own.count, x);
}

template <class T>
struct DropoutKernelParams {
  Dropout<T> op;
  std::uint64_t threshold;  // the least word that keeps an element, up to 2^32
  float scale;              // of those kept
};

template <class P, QuadAccess A, class T>
__global__ __launch_bounds__(P::threads) void dropout_kernel(
    const __grid_constant__ DropoutKernelParams<T> p) {
  const auto own = SampleQuad::of_thread(p.op.per_sample);
  if (own.count == 0) return;
  for (int n = static_cast<int>(blockIdx.y); n < p.op.n; n += static_cast<int>(gridDim.y)) {
    const std::int64_t at = n * p.op.per_sample + own.first;
    const PhiloxWords words = quad_words(p.op.position, n, own);
    float x[quad] = {};
    load_quad<A>(p.op.x + at, own.count, x);
    for (int i = 0; i < quad; ++i) x[i] = words.word[i] >= p.threshold ? x[i] * p.scale : 0.0f;
    store_quad<A>(p.op.y + at, own.count, x);
  }
}

// The first `c` elements of each row.
template <class T>
struct CopyRows {
  const T* from;
  T* to;
  int from_stride, to_stride;
  std::int64_t rows;
  int c;
};

template <class P, QuadAccess A, class T>
__global__ __launch_bounds__(P::threads) void copy_rows_kernel(const __grid_constant__ CopyRows<T> p) {
  const std::int64_t row = row_of_warp();
  if (row >= p.rows) return;
  const T* const from = p.from + row * p.from_stride;
  T* const to = p.to + row * p.to_stride;
  for (int i = static_cast<int>(threadIdx.x % warp_size) * quad; i < p.c; i += warp_size * quad) {
    float x[quad] = {};
    load_quad<A>(from + i, min(quad, p.c - i), x);
    store_quad<A>(to + i, min(quad, p.c - i), x);
  }
}

template <class D, class T>
void launch_copy_rows(const D& device, const CopyRows<T>& p) {
  using Policy = ElementwisePolicy;
  // Both strides, one of which is c, are multiples of 4 where their bits together are those of one.
  const bool is_vector = quad_access(p.from_stride | p.to_stride, p.from, p.to) == QuadAccess::vector;
  launch_kernel(device, blocks_for(p.rows, Policy::threads / warp_size), Policy::threads,
                is_vector ? copy_rows_kernel<Policy, QuadAccess::vector, T>
                          : copy_rows_kernel<Policy, QuadAccess::scalar, T>,
                p);
}

}  // namespace ddpm::kernels

namespace ddpm {

template <GpuLike D, class T>
void launch(const D& device, const AddTo<T>& p) {
  using Policy = kernels::ElementwisePolicy;
  const bool is_vector = kernels::flat_quad_access(p.x, p.y) == kernels::QuadAccess::vector;
  kernels::launch_kernel(device, kernels::quad_grid(1, p.count, Policy::threads), Policy::threads,
                         is_vector ? kernels::add_to_kernel<Policy, kernels::QuadAccess::vector, T>
                                   : kernels::add_to_kernel<Policy, kernels::QuadAccess::scalar, T>,
                         p);
}

template <GpuLike D, class From, class To>
void launch(const D& device, const Cast<From, To>& p) {
  using Policy = kernels::ElementwisePolicy;
  const bool is_vector = kernels::flat_quad_access(p.x, p.y) == kernels::QuadAccess::vector;
  kernels::launch_kernel(device, kernels::quad_grid(1, p.count, Policy::threads), Policy::threads,
                         is_vector ? kernels::cast_kernel<Policy, kernels::QuadAccess::vector, From, To>
                                   : kernels::cast_kernel<Policy, kernels::QuadAccess::scalar, From, To>,
                         p);
}

template <GpuLike D, class T>
void launch(const D& device, const Affine<T>& p) {
  using Policy = kernels::ElementwisePolicy;
  const bool is_vector = kernels::flat_quad_access(p.x, p.y) == kernels::QuadAccess::vector;
  kernels::launch_kernel(device, kernels::quad_grid(1, p.count, Policy::threads), Policy::threads,
                         is_vector ? kernels::affine_kernel<Policy, kernels::QuadAccess::vector, T>
                                   : kernels::affine_kernel<Policy, kernels::QuadAccess::scalar, T>,
                         p);
}

template <GpuLike D, class T>
void launch(const D& device, const Dropout<T>& p) {
  using Policy = kernels::ElementwisePolicy;
  const bool is_vector = kernels::quad_access(p.per_sample, p.x, p.y) == kernels::QuadAccess::vector;
  kernels::launch_kernel(
      device, kernels::quad_grid(p.n, p.per_sample, Policy::threads), Policy::threads,
      is_vector ? kernels::dropout_kernel<Policy, kernels::QuadAccess::vector, T>
                : kernels::dropout_kernel<Policy, kernels::QuadAccess::scalar, T>,
      {p, static_cast<std::uint64_t>(std::ceil(p.p * 0x1p32)), static_cast<float>(1 / (1 - p.p))});
}

template <GpuLike D, class T>
void launch(const D& device, const Concat<T>& p) {
  const int joined = p.c + p.c2;
  kernels::launch_copy_rows<D, T>(device, {p.x, p.y, p.c, joined, p.rows, p.c});
  kernels::launch_copy_rows<D, T>(device, {p.x2, p.y + p.c, p.c2, joined, p.rows, p.c2});
}

template <GpuLike D, class T>
void launch(const D& device, const Split<T>& p) {
  const int joined = p.c + p.c2;
  kernels::launch_copy_rows<D, T>(device, {p.y, p.x, joined, p.c, p.rows, p.c});
  kernels::launch_copy_rows<D, T>(device, {p.y + p.c, p.x2, joined, p.c2, p.rows, p.c2});
}

}  // namespace ddpm
