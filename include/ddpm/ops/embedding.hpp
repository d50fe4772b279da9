// SPDX-License-Identifier: MIT
// The sinusoidal embedding of time steps, and the learned embedding of class labels.
//
//   angle[n,i] = t[n] * exp(-ln(10000) * i / (half - freq_shift)),  i < half = Dim / 2
//   y[n] = [sin(angle) | cos(angle)], or [cos | sin] where flipped; an odd Dim ends in a zero.
//
// For float the frequency and the angle are rounded to float, as diffusers' get_timestep_embedding does; for
// double not.
#pragma once

#include <cmath>

#include <ddpm/core/debug.hpp>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm {

struct TimestepEmbeddingOptions {
  bool flip_sin_to_cos = false;
  double freq_shift = 1;
};

template <class T>
struct TimestepEmbedding {
  const std::int32_t* t;  // [N]
  T* y;                   // [N, Dim]
  int n, dim;
  bool flip_sin_to_cos;
  double freq_shift;
};

namespace detail {

// exp(x) for -10 < x <= 0, with the reduction, the polynomial and the rounding of the vectorised expf that
// torch calls on a CPU (within a unit in the last place): at t = 1000 the angle makes a difference of one
// such unit visible.
DDPM_HOST_DEVICE inline float torch_exp(float x) {
  const float power = std::nearbyint(x * 1.44269504f);
  float rest = std::fma(power, -0.693145751953125f, x);
  rest = std::fma(power, -1.428606765330187045e-06f, rest);
  const float coefficients[] = {0.00139304355252534151077271f, 0.00833336077630519866943359f,
                                0.0416664853692054748535156f, 0.166666671633720397949219f, 0.5f};
  float sum = 0.000198527617612853646278381f;
  for (const float coefficient : coefficients) sum = std::fma(sum, rest, coefficient);
  return std::ldexp(1.0f + std::fma(rest * rest, sum, rest), static_cast<int>(power));
}
DDPM_HOST_DEVICE inline double torch_exp(double x) { return std::exp(x); }

}  // namespace detail

// Frequency i of an embedding with `half` frequencies, rounded after each operation as torch does.
template <class Real>
DDPM_HOST_DEVICE Real timestep_frequency(int i, int half, double freq_shift) {
  const Real exponent = static_cast<Real>(-9.210340371976184) * static_cast<Real>(i);  // -ln(10000)
  return detail::torch_exp(exponent / static_cast<Real>(half - freq_shift));
}

// y[n] += table[label[n]]
template <class T>
struct ClassEmbedding {
  const Accumulator<T>* table;  // [Classes, Dim]
  const std::int32_t* label;    // [N]
  T* y;                         // [N, Dim]
  int n, dim;
};

// dtable[label[n]] += dy[n]
template <class T>
struct ClassEmbeddingBackward {
  const T* dy;
  const std::int32_t* label;
  Accumulator<T>* dtable;
  int n, dim;
};

template <class T, Device D>
void timestep_embedding(const TensorView<std::int32_t, D>& t, const TimestepEmbeddingOptions& options,
                        const TensorView<T, D>& y) {
  const Shape& s = y.shape();
  check(s.rank() == 2 && t.shape() == Shape{s[0]}, "timestep_embedding: t is ", t.shape(), ", y is ", s,
        ", expected [N] and [N, Dim]");
  check<ConfigError>(double(s[1] / 2) > options.freq_shift, "timestep_embedding: ", s[1],
                     " channels are too few for freq_shift ", options.freq_shift);
  launch(y.device(), TimestepEmbedding<T>{t.data(), y.data(), static_cast<int>(s[0]), static_cast<int>(s[1]),
                                          options.flip_sin_to_cos, options.freq_shift});
  detail::check_outputs("timestep_embedding", y);
}

// Labels must lie within the table; device code does not check them.
template <class T, Device D>
void class_embedding(const TensorView<Accumulator<T>, D>& table, const TensorView<std::int32_t, D>& label,
                     const TensorView<T, D>& y) {
  const Shape& s = y.shape();
  check(
      s.rank() == 2 && label.shape() == Shape{s[0]} && table.shape().rank() == 2 && table.shape()[1] == s[1],
      "class_embedding: table is ", table.shape(), ", label ", label.shape(), ", y ", s,
      ", expected [Classes, Dim], [N] and [N, Dim]");
  launch(y.device(), ClassEmbedding<T>{table.data(), label.data(), y.data(), static_cast<int>(s[0]),
                                       static_cast<int>(s[1])});
  detail::check_outputs("class_embedding", y);
}

template <class T, Device D>
void class_embedding_backward(const TensorView<T, D>& dy, const TensorView<std::int32_t, D>& label,
                              const TensorView<Accumulator<T>, D>& dtable) {
  const Shape& s = dy.shape();
  check(s.rank() == 2 && label.shape() == Shape{s[0]} && dtable.shape().rank() == 2 &&
            dtable.shape()[1] == s[1],
        "class_embedding_backward: dtable is ", dtable.shape(), ", label ", label.shape(), ", dy ", s);
  launch(dy.device(), ClassEmbeddingBackward<T>{dy.data(), label.data(), dtable.data(),
                                                static_cast<int>(s[0]), static_cast<int>(s[1])});
  detail::check_outputs("class_embedding_backward", dtable);
}

}  // namespace ddpm
