// SPDX-License-Identifier: MIT
// Diffusion: a model and a schedule, to train and to sample with.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <ddpm/core/rng.hpp>
#include <ddpm/diffusion/concepts.hpp>
#include <ddpm/diffusion/sampler.hpp>
#include <ddpm/diffusion/schedule.hpp>
#include <ddpm/diffusion/threshold.hpp>
#include <ddpm/ops/loss.hpp>

namespace ddpm {

struct DiffusionOptions {
  Prediction prediction = Prediction::epsilon;
  bool recompute = false;  // train with less memory and a second forward pass, for a model that can (UNet)
};

// Images to train on: bytes, or floats in [-1, 1]; labels for a class-conditional model.
template <class T, Device D>
struct Batch {
  TensorView<std::uint8_t, D> pixels = {};  // [N, H, W, C]
  TensorView<T, D> images = {};             // [N, H, W, C]
  TensorView<std::int32_t, D> labels = {};  // [N]
  bool flip = false;                        // mirror a random half of them

  const Shape& shape() const { return pixels.empty() ? images.shape() : pixels.shape(); }
};

// The loss of a step. It stays on the device until value() waits for it, and is valid until the next step.
template <class Real, Device D>
class Loss {
 public:
  explicit Loss(const TensorView<Real, D>& scalar) : scalar_(scalar) {}
  Real value() const { return scalar_.to_host().front(); }

 private:
  TensorView<Real, D> scalar_;
};

// A sampling under way: x, and one step of the reverse process at a time. Borrows the model.
template <Model M>
class Sampling {
 public:
  using T = typename M::value_type;
  using D = typename M::device_type;
  using View = TensorView<T, D>;

  Sampling(const M& model, const std::vector<DenoisingCoefficients<double>>& plan, double clip,
           const Shape& shape, const DynamicThreshold& threshold = {})
      : model_(&model),
        steps_(static_cast<int>(plan.size())),
        clip_(clip),
        threshold_(threshold),
        x_(model.device(), shape),
        t_(model.device(), {shape[0]}),
        table_(model.device(), {steps_}),
        step_(model.device(), {1}) {
    for (const auto& k : plan)
      rows_.push_back({static_cast<Accumulator<T>>(k.x0_from_x), static_cast<Accumulator<T>>(k.x0_from_m),
                       static_cast<Accumulator<T>>(k.x_from_x0), static_cast<Accumulator<T>>(k.x_from_x),
                       static_cast<Accumulator<T>>(k.x_from_m), static_cast<Accumulator<T>>(k.sigma), k.t});
    table_.upload(rows_);
    step_.upload(std::vector<std::int32_t>{-1});
  }

  const View& x() const { return x_; }  // to be filled with x_T before the first step
  Tensor<T, D> take() && { return std::move(x_); }
  int steps() const { return steps_; }
  int done() const { return done_; }

  // Class labels [N] of a conditional model; borrowed.
  void condition(const TensorView<std::int32_t, D>& labels) { labels_ = labels; }

  // x_t -> x_{t-1}. The noise of step i is drawn at `position` with i as its step, unless it is given.
  void step(const RandomPosition& position, const View& noise = {}) {
    check<ConfigError>(done_ < steps_, "Sampling: all ", steps_, " steps are done");
    begin_step(table_.view(), step_.view(), t_.view());
    const Tensor<T, D> output = predict();
    if (threshold_.ratio > 0)
      denoise_thresholded(output, position, noise);
    else
      denoise<T, D>(
          {.model_output = output, .table = table_, .step = step_, .noise = noise, .position = position},
          clip_, x_);
    ++done_;
  }

 private:
  using Coefficients = DenoisingCoefficients<Accumulator<T>>;

  // Image by image, as each has a bound s of its own: denoise() clips to s, and 1 / s goes into the
  // coefficient of x0. The quantile is found on the host, on every device.
  void denoise_thresholded(const View& output, RandomPosition position, const View& noise) {
    const Coefficients& k = rows_[static_cast<std::size_t>(done_)];
    std::vector<Coefficients> rows = rows_;
    for (std::int64_t n = 0; n < x_.shape()[0]; ++n, ++position.sample) {
      const auto x = x_.slice(n, 1);
      const View m = output.slice(n, 1);
      const double s = detail::dynamic_bound(threshold_, k, x.to_host(), m.to_host());
      rows[static_cast<std::size_t>(done_)].x_from_x0 = k.x_from_x0 / static_cast<Accumulator<T>>(s);
      table_.upload(rows);
      denoise<T, D>({.model_output = m,
                     .table = table_,
                     .step = step_,
                     .noise = noise.empty() ? View{} : noise.slice(n, 1),
                     .position = position},
                    s, x);
    }
  }

  Tensor<T, D> predict() const {
    if constexpr (requires { model_->predict(x_, t_, labels_); })
      return model_->predict(x_, t_, labels_);
    else
      return model_->predict(x_, t_);
  }

  const M* model_;
  int steps_;
  int done_ = 0;
  double clip_;
  DynamicThreshold threshold_;
  std::vector<Coefficients> rows_;
  Tensor<T, D> x_;
  Tensor<std::int32_t, D> t_;
  TensorView<std::int32_t, D> labels_;
  Tensor<Coefficients, D> table_;  // of rows_
  Tensor<std::int32_t, D> step_;
};

// A model together with the noise levels it was trained for: all that sampling needs. Borrows both.
template <Model M>
class Denoiser {
 public:
  using T = typename M::value_type;
  using D = typename M::device_type;

  Denoiser(const M& model, const NoiseLevels& levels, const DiffusionOptions& options)
      : model_(&model), levels_(&levels), options_(options) {}

  // Images [N, H, W, C], about [-1, 1] (exactly where the sampler clips): image i is drawn as number
  // rng.images + i of the run. report(step) is called after each step.
  template <Sampler S, class Report>
  Tensor<T, D> sample(const Shape& shape, Rng& rng, const S& sampler, Report&& report,
                      const TensorView<std::int32_t, D>& labels = {}) const {
    Sampling<M> sampling = begin(sampler, shape);
    sampling.condition(labels);
    RandomPosition position = rng.next_images(shape[0], RandomStream::initial_noise);
    fill_normal<T, D>(position, sampling.x());
    position.stream = RandomStream::sampler_noise;
    while (sampling.done() < sampling.steps()) {
      sampling.step(position);
      report(sampling);
    }
    return std::move(sampling).take();
  }

  template <Sampler S>
  Tensor<T, D> sample(const Shape& shape, Rng& rng, const S& sampler) const {
    return sample(shape, rng, sampler, [](const Sampling<M>&) {});
  }

  // A sampling to be stepped by hand, its x not yet filled.
  template <Sampler S>
  Sampling<M> begin(const S& sampler, const Shape& shape) const {
    DynamicThreshold threshold;
    if constexpr (requires { threshold = sampler.threshold; }) threshold = sampler.threshold;
    return {*model_, sampler.plan(*levels_, options_.prediction), sampler.clip, shape, threshold};
  }

 private:
  const M* model_;
  const NoiseLevels* levels_;
  DiffusionOptions options_;
};

template <Model M, Schedule S>
class Diffusion {
 public:
  using T = typename M::value_type;
  using D = typename M::device_type;

  Diffusion(M model, S schedule, const DiffusionOptions& options = {})
      : model_(std::move(model)),
        schedule_(std::move(schedule)),
        levels_(schedule_),
        options_(options),
        signal_(table(&NoiseLevels::signal)),
        sigma_(table(&NoiseLevels::sigma)),
        loss_(model_.device(), {1}) {}

  M& model() { return model_; }
  const M& model() const { return model_; }
  const S& schedule() const { return schedule_; }
  const NoiseLevels& levels() const { return levels_; }
  const DiffusionOptions& options() const { return options_; }

  // x_t of the images at time steps t with the given noise, and the target of the prediction unless that is
  // empty.
  void add_noise(const Batch<T, D>& batch, const TensorView<std::int32_t, D>& t,
                 const TensorView<T, D>& noise, const TensorView<T, D>& xt,
                 const TensorView<T, D>& target = {}) const {
    noised(batch, t, {.noise = noise}, {.prediction = options_.prediction}, xt, target);
  }

  // One step of training, eq. 14 of Ho et al. 2020: draws t and noise, adds to the model's gradients.
  Loss<Accumulator<T>, D> train_step(const Batch<T, D>& batch, Rng& rng) requires TrainableModel<M> {
    model_.parameters().enable_gradients();
    const RandomPosition position = rng.next_samples(batch.shape()[0], RandomStream::forward_noise);
    const Noised drawn = draw(batch, position);
    if constexpr (requires { cache_.position; }) cache_.position = position;
    if constexpr (requires { cache_.labels; }) cache_.labels = batch.labels;
    if constexpr (requires { cache_.recompute; }) cache_.recompute = options_.recompute;
    const Tensor<T, D> prediction = model_.forward(drawn.xt, drawn.t, cache_);
    mse_loss<T, D>({prediction, drawn.target}, loss_, prediction);
    model_.backward(prediction, cache_);
    return Loss<Accumulator<T>, D>(loss_);
  }

  // The loss of `model` (which may be an average of this one's weights) on a batch, without gradients.
  Loss<Accumulator<T>, D> loss(const M& model, const Batch<T, D>& batch, Rng& rng) const {
    const Noised drawn = draw(batch, rng.next_samples(batch.shape()[0], RandomStream::forward_noise));
    mse_loss<T, D>({predict(model, drawn, batch.labels), drawn.target}, loss_, {});
    return Loss<Accumulator<T>, D>(loss_);
  }

  // The same process around another model's weights.
  Denoiser<M> with(const M& model) const { return {model, levels_, options_}; }

  template <Sampler Method>
  Tensor<T, D> sample(const Shape& shape, Rng& rng, const Method& sampler) const {
    return with(model_).sample(shape, rng, sampler);
  }

 private:
  struct Noised {
    Tensor<std::int32_t, D> t;
    Tensor<T, D> xt, target;
  };

  Tensor<Accumulator<T>, D> table(double (NoiseLevels::*entry)(int) const) const {
    std::vector<Accumulator<T>> values;
    for (int t = 0; t < levels_.steps(); ++t)
      values.push_back(static_cast<Accumulator<T>>((levels_.*entry)(t)));
    return {model_.device(), {levels_.steps()}, values};
  }

  void noised(const Batch<T, D>& batch, const TensorView<std::int32_t, D>& t, NoisingOperands<T, D> in,
              NoisingOptions options, const TensorView<T, D>& xt, const TensorView<T, D>& target) const {
    in.x0 = batch.images;
    in.pixels = batch.pixels;
    in.t = t;
    in.signal = signal_;
    in.sigma = sigma_;
    options.flip = batch.flip;
    ddpm::add_noise(in, options, xt, target);
  }

  Noised draw(const Batch<T, D>& batch, const RandomPosition& position) const {
    const D& device = model_.device();
    const Shape& shape = batch.shape();
    Noised drawn{{device, {shape[0]}}, {device, shape}, {device, shape}};
    draw_timesteps(position, levels_.steps(), drawn.t.view());
    noised(batch, drawn.t, {}, {.position = position, .prediction = options_.prediction}, drawn.xt,
           drawn.target);
    return drawn;
  }

  Tensor<T, D> predict(const M& model, const Noised& drawn, const TensorView<std::int32_t, D>& labels) const {
    if constexpr (requires { model.predict(drawn.xt, drawn.t, labels); })
      return model.predict(drawn.xt, drawn.t, labels);
    else
      return model.predict(drawn.xt, drawn.t);
  }

  static constexpr auto cache_of() {
    if constexpr (TrainableModel<M>)
      return std::type_identity<typename M::Cache>{};
    else
      return std::type_identity<std::monostate>{};
  }

  M model_;
  S schedule_;
  NoiseLevels levels_;
  DiffusionOptions options_;
  Tensor<Accumulator<T>, D> signal_, sigma_;  // sqrt(alpha_bar), sqrt(1 - alpha_bar)
  Tensor<Accumulator<T>, D> loss_;
  typename decltype(cache_of())::type cache_;
};

}  // namespace ddpm
