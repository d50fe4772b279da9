// SPDX-License-Identifier: MIT
// The reverse step, in one pass, for every sampler and prediction:
//
//   x0 = clamp(x0_from_x * x + x0_from_m * m, -clip, clip)
//   x  = x_from_x0 * x0 + x_from_x * x + x_from_m * m + sigma * z
//
// m is the model's output and z standard normal noise. The coefficients of all steps are made once, in
// double, by the samplers (ddpm/diffusion/sampler.hpp) and lie in a table on the device, read at a step
// counter that is on the device too, so that a whole sampling loop is one recorded sequence of launches.
#pragma once

#include <ddpm/core/debug.hpp>
#include <ddpm/core/rng.hpp>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm {

template <class Real>
struct DenoisingCoefficients {
  Real x0_from_x, x0_from_m;
  Real x_from_x0, x_from_x, x_from_m;
  Real sigma;      // 0: no noise is drawn
  std::int32_t t;  // the time step given to the model
};

template <class T>
struct Denoising {
  Accumulator<T>* x;  // [N, PerSample], updated in place
  const T* model_output;
  const DenoisingCoefficients<Accumulator<T>>* table;
  const std::int32_t* step;     // [1], which row of the table
  Accumulator<T> clip;          // infinity: none
  const Accumulator<T>* noise;  // [N, PerSample], or null to draw it
  RandomPosition position;      // stream sampler_noise; its step is replaced by *step
  Accumulator<T>* x0;           // [N, PerSample], the predicted image, or null
  int n;
  std::int64_t per_sample;
  T* model_input = nullptr;  // [N, PerSample], the new x in the model's type, or null
};

// ++*step, then t[n] = table[*step].t: begins the next step of a sampling loop. The counter starts at -1.
template <class Real>
struct BeginStep {
  const DenoisingCoefficients<Real>* table;
  std::int32_t* step;
  std::int32_t* t;  // [N]
  int n;
};

// x = standard normal noise; element i of sample n is normal i of position.sample + n.
template <class T>
struct FillNormal {
  T* x;  // [N, PerSample]
  RandomPosition position;
  int n;
  std::int64_t per_sample;
};

template <class T, Device D>
struct DenoisingOperands {
  TensorView<T, D> model_output;                               // [N, ...]
  TensorView<DenoisingCoefficients<Accumulator<T>>, D> table;  // [Steps]
  TensorView<std::int32_t, D> step;                            // [1]
  TensorView<Accumulator<T>, D> noise = {};                    // optional
  TensorView<Accumulator<T>, D> x0 = {};                       // written where given
  RandomPosition position = {};
  TensorView<T, D> model_input = {};  // written where given: x for the model's next call
};

// x is updated in place.
template <class T, Device D>
void denoise(const DenoisingOperands<T, D>& in, double clip, const TensorView<Accumulator<T>, D>& x) {
  detail::check_shape("denoise", "model_output", in.model_output, x.shape());
  detail::check_optional("denoise", "noise", in.noise, x.shape());
  detail::check_optional("denoise", "x0", in.x0, x.shape());
  detail::check_optional("denoise", "model_input", in.model_input, x.shape());
  const auto n = static_cast<int>(x.shape()[0]);
  launch(x.device(), Denoising<T>{x.data(), in.model_output.data(), in.table.data(), in.step.data(),
                                  static_cast<Accumulator<T>>(clip), in.noise.data(), in.position,
                                  in.x0.data(), n, n == 0 ? 0 : x.numel() / n, in.model_input.data()});
  detail::check_outputs("denoise", x);
}

template <class Real, Device D>
void begin_step(const TensorView<DenoisingCoefficients<Real>, D>& table,
                const TensorView<std::int32_t, D>& step, const TensorView<std::int32_t, D>& t) {
  launch(t.device(), BeginStep<Real>{table.data(), step.data(), t.data(), static_cast<int>(t.numel())});
}

template <class T, Device D>
void fill_normal(const RandomPosition& position, const TensorView<T, D>& x) {
  const auto n = static_cast<int>(x.shape()[0]);
  launch(x.device(), FillNormal<T>{x.data(), position, n, n == 0 ? 0 : x.numel() / n});
  detail::check_outputs("fill_normal", x);
}

}  // namespace ddpm
