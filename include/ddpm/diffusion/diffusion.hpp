// SPDX-License-Identifier: MIT
// Diffusion: a model and a schedule, to train and to sample with.
#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <ddpm/core/graph.hpp>
#include <ddpm/core/rng.hpp>
#include <ddpm/diffusion/concepts.hpp>
#include <ddpm/diffusion/sampler.hpp>
#include <ddpm/diffusion/schedule.hpp>
#include <ddpm/diffusion/threshold.hpp>
#include <ddpm/ops/elementwise.hpp>
#include <ddpm/ops/loss.hpp>

namespace ddpm {

struct DiffusionOptions {
  Prediction prediction = Prediction::epsilon;
  bool recompute = false;  // train with less memory and a second forward pass, for a model that can (UNet)
};

// Images to train on: bytes, or floats in [-1, 1]; labels for a class-conditional model.
template <class Real, Device D>
struct Batch {
  TensorView<std::uint8_t, D> pixels = {};  // [N, H, W, C]
  TensorView<Real, D> images = {};          // [N, H, W, C]
  TensorView<std::int32_t, D> labels = {};  // [N]
  bool flip = false;                        // mirror a random half of them

  const Shape& shape() const { return pixels.empty() ? images.shape() : pixels.shape(); }

  // Whether the other lies in the same memory and is used in the same way.
  bool is_same(const Batch& other) const {
    return pixels.data() == other.pixels.data() && images.data() == other.images.data() &&
           labels.data() == other.labels.data() && shape() == other.shape() && flip == other.flip;
  }
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
  using Real = Accumulator<T>;
  using D = typename M::device_type;
  using View = TensorView<Real, D>;

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
    if constexpr (rounds) rounded_ = Tensor<T, D>(model.device(), shape);
    for (const auto& k : plan)
      rows_.push_back({static_cast<Real>(k.x0_from_x), static_cast<Real>(k.x0_from_m),
                       static_cast<Real>(k.x_from_x0), static_cast<Real>(k.x_from_x),
                       static_cast<Real>(k.x_from_m), static_cast<Real>(k.sigma), k.t});
    table_.upload(rows_);
    step_.upload(std::vector<std::int32_t>{-1});
  }

  const View& x() const { return x_; }  // to be filled with x_T before the first step, then only read
  Tensor<Real, D> take() && { return std::move(x_); }
  int steps() const { return steps_; }
  int done() const { return done_; }

  // Class labels [N] of a conditional model; borrowed.
  void condition(const TensorView<std::int32_t, D>& labels) { labels_ = labels; }

  // x_t -> x_{t-1}. The noise of step i is drawn at `position` with i as its step, unless it is given.
  void step(const RandomPosition& position, const View& noise = {}) {
    start();
    run(position, noise);
    ++done_;
  }

  // step(position), after the first few calls as a graph where the device has them: position, labels and weights are
  // then those that were recorded.
  void replay(const RandomPosition& position) {
    if (threshold_.ratio > 0) return step(position);  // it is found on the host
    start();
    replay_(model_->device(), [&] { run(position, {}); });
    ++done_;
  }

 private:
  using Coefficients = DenoisingCoefficients<Real>;
  static constexpr bool rounds = !std::same_as<T, Real>;  // x for the model

  void start() {
    check<ConfigError>(done_ < steps_, "Sampling: all ", steps_, " steps are done");
    if constexpr (rounds)
      if (done_ == 0) cast(x_.view(), rounded_.view());
  }

  void run(const RandomPosition& position, const View& noise) {
    begin_step(table_.view(), step_.view(), t_.view());
    const Tensor<T, D> output = predict(input());
    if (threshold_.ratio > 0)
      denoise_thresholded(output, position, noise);
    else
      denoise<T, D>({.model_output = output,
                     .table = table_,
                     .step = step_,
                     .noise = noise,
                     .position = position,
                     .model_input = rounded_},
                    clip_, x_);
  }

  // Image by image, as each has a bound s of its own: denoise() clips to s, and 1 / s goes into the
  // coefficient of x0. The quantile is found on the host, on every device.
  void denoise_thresholded(const TensorView<T, D>& output, RandomPosition position, const View& noise) {
    const Coefficients& k = rows_[static_cast<std::size_t>(done_)];
    std::vector<Coefficients> rows = rows_;
    for (std::int64_t n = 0; n < x_.shape()[0]; ++n, ++position.sample) {
      const auto x = x_.slice(n, 1);
      const auto m = output.slice(n, 1);
      const double s = detail::dynamic_bound(threshold_, k, x.to_host(), m.to_host());
      rows[static_cast<std::size_t>(done_)].x_from_x0 = k.x_from_x0 / static_cast<Real>(s);
      table_.upload(rows);
      denoise<T, D>({.model_output = m,
                     .table = table_,
                     .step = step_,
                     .noise = noise.empty() ? View{} : noise.slice(n, 1),
                     .position = position,
                     .model_input = rounds ? rounded_.slice(n, 1) : rounded_.view()},
                    s, x);
    }
  }

  const TensorView<T, D>& input() const {
    if constexpr (rounds)
      return rounded_;
    else
      return x_;
  }

  Tensor<T, D> predict(const TensorView<T, D>& x) const {
    if constexpr (requires { model_->predict(x, t_, labels_); })
      return model_->predict(x, t_, labels_);
    else
      return model_->predict(x, t_);
  }

  const M* model_;
  int steps_;
  int done_ = 0;
  double clip_;
  DynamicThreshold threshold_;
  std::vector<Coefficients> rows_;
  Tensor<Real, D> x_;
  Tensor<T, D> rounded_;  // x in T, renewed by denoise(); empty where that is x itself
  Tensor<std::int32_t, D> t_;
  TensorView<std::int32_t, D> labels_;
  Tensor<Coefficients, D> table_;  // of rows_
  Tensor<std::int32_t, D> step_;
  Replay<D> replay_;
};

// A model together with the noise levels it was trained for: all that sampling needs. Borrows both.
template <Model M>
class Denoiser {
 public:
  using Real = Accumulator<typename M::value_type>;
  using D = typename M::device_type;

  Denoiser(const M& model, const NoiseLevels& levels, const DiffusionOptions& options)
      : model_(&model), levels_(&levels), options_(options) {}

  // Images [N, H, W, C], about [-1, 1] (exactly where the sampler clips): image i is drawn as number
  // rng.images + i of the run. report(step) is called after each step.
  template <Sampler S, class Report>
  Tensor<Real, D> sample(const Shape& shape, Rng& rng, const S& sampler, Report&& report,
                         const TensorView<std::int32_t, D>& labels = {}) const {
    Sampling<M> sampling = begin(sampler, shape);
    sampling.condition(labels);
    RandomPosition position = rng.next_images(shape[0], RandomStream::initial_noise);
    fill_normal<Real, D>(position, sampling.x());
    position.stream = RandomStream::sampler_noise;
    while (sampling.done() < sampling.steps()) {
      sampling.replay(position);
      report(sampling);
    }
    return std::move(sampling).take();
  }

  template <Sampler S>
  Tensor<Real, D> sample(const Shape& shape, Rng& rng, const S& sampler) const {
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
  using Real = Accumulator<T>;  // of images, noise, x_t, the target, the loss; the model alone is of T
  using D = typename M::device_type;

  Diffusion(M model, S schedule, const DiffusionOptions& options = {})
      : model_(std::move(model)),
        schedule_(std::move(schedule)),
        levels_(schedule_),
        options_(options),
        signal_(table(&NoiseLevels::signal)),
        sigma_(table(&NoiseLevels::sigma)),
        loss_(model_.device(), {1}),
        origin_(model_.device(), {1}) {}

  M& model() { return model_; }
  const M& model() const { return model_; }
  const S& schedule() const { return schedule_; }
  const NoiseLevels& levels() const { return levels_; }
  const DiffusionOptions& options() const { return options_; }

  // x_t of the images at time steps t with the given noise, and the target of the prediction unless that is
  // empty.
  void add_noise(const Batch<Real, D>& batch, const TensorView<std::int32_t, D>& t,
                 const TensorView<Real, D>& noise, const TensorView<Real, D>& xt,
                 const TensorView<Real, D>& target = {}) const {
    noised(batch, t, {.noise = noise}, {.prediction = options_.prediction}, xt, target);
  }

  // One step of training, eq. 14 of Ho et al. 2020: draws t and noise, adds to the model's gradients.
  Loss<Real, D> train_step(const Batch<Real, D>& batch, Rng& rng) requires TrainableModel<M> {
    begin_step(batch, rng);
    run_step(batch);
    return loss();
  }

  // The parts of train_step(). begin_step() puts on the device which samples are drawn, run_step() is the same work
  // every time, so that it can be recorded.
  void begin_step(const Batch<Real, D>& batch, Rng& rng) requires TrainableModel<M> {
    model_.parameters().enable_gradients();
    model_.parameters().round();
    const RandomPosition position = rng.next_samples(batch.shape()[0], RandomStream::forward_noise);
    seed_ = position.seed;
    origin_.upload(std::array{position.sample});
  }
  void run_step(const Batch<Real, D>& batch) requires TrainableModel<M> {
    const RandomPosition position{seed_, 0, 0, RandomStream::forward_noise, origin_.data()};
    const Noised drawn = draw(batch, position);
    if constexpr (requires { cache_.position; }) cache_.position = position;
    if constexpr (requires { cache_.labels; }) cache_.labels = batch.labels;
    if constexpr (requires { cache_.recompute; }) cache_.recompute = options_.recompute;
    const Tensor<T, D> prediction = model_.forward(drawn.input, drawn.t, cache_);
    mse_loss<T, D>({prediction, drawn.target}, loss_, prediction);
    model_.backward(prediction, cache_);
  }

  // Of the last step, or of the last call of the loss() below.
  Loss<Real, D> loss() const { return Loss<Real, D>(loss_); }

  // The loss of `model` (which may be an average of this one's weights) on a batch, without gradients.
  Loss<Real, D> loss(const M& model, const Batch<Real, D>& batch, Rng& rng) const {
    const Noised drawn = draw(batch, rng.next_samples(batch.shape()[0], RandomStream::forward_noise));
    mse_loss<T, D>({predict(model, drawn, batch.labels), drawn.target}, loss_, {});
    return loss();
  }

  // The same process around another model's weights.
  Denoiser<M> with(const M& model) const { return {model, levels_, options_}; }

  template <Sampler Method>
  Tensor<Real, D> sample(const Shape& shape, Rng& rng, const Method& sampler) const {
    return with(model_).sample(shape, rng, sampler);
  }

 private:
  struct Noised {
    Tensor<std::int32_t, D> t;
    Tensor<T, D> input;  // x_t
    Tensor<Real, D> target;
  };

  Tensor<Real, D> table(double (NoiseLevels::*entry)(int) const) const {
    std::vector<Real> values;
    for (int t = 0; t < levels_.steps(); ++t) values.push_back(static_cast<Real>((levels_.*entry)(t)));
    return {model_.device(), {levels_.steps()}, values};
  }

  void noised(const Batch<Real, D>& batch, const TensorView<std::int32_t, D>& t, NoisingOperands<T, D> in,
              NoisingOptions options, const TensorView<Real, D>& xt,
              const TensorView<Real, D>& target) const {
    in.x0 = batch.images;
    in.pixels = batch.pixels;
    in.t = t;
    in.signal = signal_;
    in.sigma = sigma_;
    options.flip = batch.flip;
    ddpm::add_noise(in, options, xt, target);
  }

  Noised draw(const Batch<Real, D>& batch, const RandomPosition& position) const {
    const D& device = model_.device();
    const Shape& shape = batch.shape();
    Noised drawn{{device, {shape[0]}}, {device, shape}, {device, shape}};
    draw_timesteps(position, levels_.steps(), drawn.t.view());
    noised(batch, drawn.t, {.model_input = drawn.input},
           {.position = position, .prediction = options_.prediction}, {}, drawn.target);
    return drawn;
  }

  Tensor<T, D> predict(const M& model, const Noised& drawn, const TensorView<std::int32_t, D>& labels) const {
    if constexpr (requires { model.predict(drawn.input, drawn.t, labels); })
      return model.predict(drawn.input, drawn.t, labels);
    else
      return model.predict(drawn.input, drawn.t);
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
  Tensor<Real, D> signal_, sigma_;  // sqrt(alpha_bar), sqrt(1 - alpha_bar)
  Tensor<Real, D> loss_;
  std::uint64_t seed_ = 0;           // of the step under way
  Tensor<std::uint64_t, D> origin_;  // [1], its first sample
  typename decltype(cache_of())::type cache_;
};

}  // namespace ddpm
