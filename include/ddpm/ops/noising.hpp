// SPDX-License-Identifier: MIT
// Forward noising, in one pass: x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps, and the target of the
// prediction. Ho et al. 2020, eq. 4; the v target is that of Salimans & Ho 2022.
//
// Noise is drawn inside: element i of sample n is normal i of position.sample + n. Images of bytes are read
// as x0 = byte / 127.5 - 1; with `flip`, a sample is mirrored left to right if its own random bit says so.
//
// Only what the model reads is of the model's type. In bf16, alpha_bar of the first ten time steps of a linear
// schedule is 1: they would add no noise.
#pragma once

#include <ddpm/core/debug.hpp>
#include <ddpm/core/rng.hpp>
#include <ddpm/ops/conv2d.hpp>

namespace ddpm {

// What the model predicts: the noise, the image, or v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0.
enum class Prediction { epsilon, sample, v };

template <class T>
struct Noising {
  const Accumulator<T>* x0;      // [N, H, W, C], or null where pixels is given
  const std::uint8_t* pixels;    // [N, H, W, C], or null
  const Accumulator<T>* noise;   // [N, H, W, C], or null to draw it
  const std::int32_t* t;         // [N], below the number of steps
  const Accumulator<T>* signal;  // [Steps], sqrt(alpha_bar)
  const Accumulator<T>* sigma;   // [Steps], sqrt(1 - alpha_bar)
  RandomPosition position;       // stream forward_noise; flips come from the same sample's stream flip
  bool flip;
  Prediction prediction;
  Accumulator<T>* xt;      // [N, H, W, C], or null
  Accumulator<T>* target;  // [N, H, W, C], or null
  int n, h, w, c;
  T* model_input = nullptr;  // [N, H, W, C], xt in the model's type, or null
};

// t[n] = a step in [0, steps), uniform over seeds. Consecutive samples of a run walk the golden-ratio
// sequence from a random start, so that any of its batches covers all steps evenly; that lowers the variance
// of the loss.
struct DrawTimesteps {
  std::int32_t* t;  // [N]
  RandomPosition position;
  int n, steps;
};

DDPM_HOST_DEVICE inline std::int32_t draw_timestep(const RandomPosition& position, int n, int steps) {
  const PhiloxWords start = random_words({position.seed, 0, 0, RandomStream::timestep}, 0);
  const auto sample = static_cast<std::uint32_t>(sample_number(position)) + static_cast<std::uint32_t>(n);
  const std::uint32_t word = start.word[0] + sample * 0x9E3779B9u;  // 2^32 / golden ratio
  return static_cast<std::int32_t>(uniform_below(word, static_cast<std::uint32_t>(steps)));
}

DDPM_HOST_DEVICE inline bool draw_flip(RandomPosition position, int n) {
  position.sample += static_cast<std::uint64_t>(n);
  position.stream = RandomStream::flip;
  return (random_words(position, 0).word[0] & 1u) != 0;
}

// The value the model is to predict for one element.
template <class Real>
DDPM_HOST_DEVICE Real prediction_target(Prediction prediction, Real x0, Real eps, Real signal, Real sigma) {
  switch (prediction) {
    case Prediction::epsilon:
      return eps;
    case Prediction::sample:
      return x0;
    default:
      return signal * eps - sigma * x0;
  }
}

// Either x0 or pixels is given; noise is drawn where it is empty.
template <class T, Device D>
struct NoisingOperands {
  TensorView<Accumulator<T>, D> x0 = {};
  TensorView<std::uint8_t, D> pixels = {};
  TensorView<Accumulator<T>, D> noise = {};
  TensorView<std::int32_t, D> t = {};         // [N]
  TensorView<Accumulator<T>, D> signal = {};  // [Steps]
  TensorView<Accumulator<T>, D> sigma = {};   // [Steps]
  TensorView<T, D> model_input = {};          // written where given: xt for the model
};

struct NoisingOptions {
  RandomPosition position = {};
  bool flip = false;
  Prediction prediction = Prediction::epsilon;
};

// xt and target are overwritten unless they are empty.
template <class T, Device D>
void add_noise(const NoisingOperands<T, D>& in, const NoisingOptions& options,
               const TensorView<Accumulator<T>, D>& xt, const TensorView<Accumulator<T>, D>& target) {
  const Shape& s = xt.empty() ? in.model_input.shape() : xt.shape();
  check(s.rank() == 4, "add_noise: xt must be [N, H, W, C], found ", s);
  check(in.x0.empty() != in.pixels.empty(), "add_noise: give either x0 or pixels");
  detail::check_optional("add_noise", "x0", in.x0, s);
  detail::check_optional("add_noise", "pixels", in.pixels, s);
  detail::check_optional("add_noise", "noise", in.noise, s);
  detail::check_optional("add_noise", "target", target, s);
  detail::check_optional("add_noise", "model_input", in.model_input, s);
  detail::check_shape("add_noise", "t", in.t, {s[0]});
  detail::check_shape("add_noise", "sigma", in.sigma, in.signal.shape());
  launch(in.t.device(),
         Noising<T>{in.x0.data(), in.pixels.data(), in.noise.data(), in.t.data(), in.signal.data(),
                    in.sigma.data(), options.position, options.flip, options.prediction, xt.data(),
                    target.data(), static_cast<int>(s[0]), static_cast<int>(s[1]), static_cast<int>(s[2]),
                    static_cast<int>(s[3]), in.model_input.data()});
  detail::check_outputs("add_noise", xt, target, in.model_input);
}

template <Device D>
void draw_timesteps(const RandomPosition& position, int steps, const TensorView<std::int32_t, D>& t) {
  launch(t.device(), DrawTimesteps{t.data(), position, static_cast<int>(t.numel()), steps});
}

}  // namespace ddpm
