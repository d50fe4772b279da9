// SPDX-License-Identifier: MIT
// What Diffusion asks of a model, a schedule and a sampler. Nothing here knows the U-Net.
#pragma once

#include <concepts>
#include <string>
#include <vector>

#include <ddpm/core/tensor.hpp>
#include <ddpm/diffusion/noise_levels.hpp>
#include <ddpm/ops/denoising.hpp>
#include <ddpm/ops/noising.hpp>

namespace ddpm {

namespace detail {
// nvcc knows no lambda within a concept.
inline constexpr auto any_visitor = [](const std::string&, const auto&) {};
}  // namespace detail

// Predicts from x [N, H, W, C] and time steps t [N] a tensor of the shape of x.
template <class M>
concept Model = requires(const M model, TensorView<typename M::value_type, typename M::device_type> x,
                         TensorView<std::int32_t, typename M::device_type> t) {
  requires Element<typename M::value_type>;
  requires Device<typename M::device_type>;
  { model.device() } -> std::convertible_to<typename M::device_type>;
  { model.predict(x, t) } -> std::same_as<Tensor<typename M::value_type, typename M::device_type>>;
};

// forward() keeps in a Cache what backward() needs; backward() adds to the gradients in parameters(); visit()
// calls f(name, parameter) for each parameter.
template <class M>
concept TrainableModel = Model<M> && std::default_initializable<typename M::Cache> &&
    requires(M model, typename M::Cache cache, TensorView<typename M::value_type, typename M::device_type> x,
             TensorView<std::int32_t, typename M::device_type> t) {
  { model.forward(x, t, cache) } -> std::same_as<Tensor<typename M::value_type, typename M::device_type>>;
  model.backward(x, cache);
  model.parameters().values();
  model.parameters().gradients();
  model.visit(std::string{}, detail::any_visitor);
};

// The reverse process as a list of steps, first to last; `clip` bounds the predicted image (infinity: not at
// all), and so does a DynamicThreshold `threshold`, which need not be there.
template <class S>
concept Sampler = requires(const S sampler, const NoiseLevels& levels, Prediction prediction) {
  { sampler.plan(levels, prediction) } -> std::same_as<std::vector<DenoisingCoefficients<double>>>;
  { sampler.clip } -> std::convertible_to<double>;
};

}  // namespace ddpm
