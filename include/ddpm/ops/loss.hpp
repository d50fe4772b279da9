// SPDX-License-Identifier: MIT
// Weighted mean squared error and its gradient, in one pass.
//
//   loss = mean over all elements of weight[n] * (prediction - target)^2
//   dprediction = d loss / d prediction
//
// weight is 1 where absent: L_simple of Ho et al. 2020, eq. 14. Where target is absent, it is the noise that
// add_noise drew at the same position, drawn again, so that the noise of a step need not be stored.
#pragma once

#include <ddpm/core/debug.hpp>
#include <ddpm/core/rng.hpp>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm {

template <class T>
struct MseLoss {
  const T* prediction;           // [N, PerSample]
  const Accumulator<T>* target;  // [N, PerSample], or null for the noise at `position`
  const Accumulator<T>* weight;  // [N], or null
  Accumulator<T>* loss;          // [1]
  T* dprediction;                // [N, PerSample], or null; may be prediction
  int n;
  std::int64_t per_sample;
  RandomPosition position = {};  // that of Noising
};

template <class T, Device D>
struct MseLossOperands {
  TensorView<T, D> prediction;                // [N, ...]
  TensorView<Accumulator<T>, D> target;       // as prediction, or empty for the noise at `position`
  TensorView<Accumulator<T>, D> weight = {};  // [N], optional
  RandomPosition position = {};               // that of add_noise, whose stream is forward_noise
};

// dprediction may be empty.
template <class T, Device D>
void mse_loss(const MseLossOperands<T, D>& in, const TensorView<Accumulator<T>, D>& loss,
              const TensorView<T, D>& dprediction) {
  const Shape& s = in.prediction.shape();
  check(in.prediction.numel() > 0, "mse_loss: the prediction is empty");
  check<ConfigError>(!in.target.empty() || in.position.stream == RandomStream::forward_noise,
                     "mse_loss: give a target, or the position at which add_noise drew the noise");
  detail::check_optional("mse_loss", "target", in.target, s);
  detail::check_optional("mse_loss", "weight", in.weight, {s[0]});
  detail::check_shape("mse_loss", "loss", loss, {1});
  detail::check_optional("mse_loss", "dprediction", dprediction, s);
  launch(loss.device(),
         MseLoss<T>{in.prediction.data(), in.target.data(), in.weight.data(), loss.data(), dprediction.data(),
                    static_cast<int>(s[0]), in.prediction.numel() / s[0], in.position});
  detail::check_outputs("mse_loss", loss, dprediction);
}

}  // namespace ddpm
