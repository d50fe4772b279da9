// SPDX-License-Identifier: MIT
// The forward and backward passes of UNet. Included by ddpm/models/unet.hpp.
#pragma once

#include <ddpm/models/unet.hpp>

namespace ddpm {

// In training every activation and cache stays; in inference an activation goes as soon as nothing will read
// it.
template <Element T, Device D>
class UNet<T, D>::Pass {
 public:
  Pass(Cache& cache, Mode mode) : cache_(cache), mode_(mode) {
    cache_.resnets.clear();
    cache_.attentions.clear();
    cache_.activations.clear();
    cache_.moments.clear();
    cache_.skips.clear();
  }

  using Moments = Tensor<typename Conv2d<T, D>::Moments, D>;

  View current() const { return cache_.activations.back(); }
  const Moments& current_moments() const { return cache_.moments.back(); }

  void push(Tensor<T, D> y, Moments moments = {}) {
    cache_.activations.push_back(std::move(y));
    cache_.moments.push_back(std::move(moments));
  }
  void mark_skip() { cache_.skips.push_back(cache_.activations.size() - 1); }

  std::size_t pop_skip() { return cache_.skips[cache_.skips.size() - ++popped_]; }

  // Runs a resnet on the current activation, joined with activation `skip` where one is given.
  void resnet(const ResnetBlock<T, D>& block, std::optional<std::size_t> skip = {}) {
    const std::size_t x = cache_.activations.size() - 1;
    typename ResnetBlock<T, D>::Input in{.x = current(),
                                         .temb = cache_.temb,
                                         .training = mode_ == Mode::training,
                                         .moments = current_moments()};
    if (skip) {
      in.x2 = cache_.activations[*skip];
      in.moments2 = cache_.moments[*skip];
    }
    in.dropout = cache_.position;
    in.dropout.stream = RandomStream::dropout;
    in.dropout.step = static_cast<std::uint32_t>(cache_.resnets.size());
    if (mode_ == Mode::training) cache_.resnets.emplace_back().in = in;
    typename ResnetBlock<T, D>::Cache passing;
    auto& saved = keeps_all() ? cache_.resnets.back() : passing;
    Tensor<T, D> y = block.forward(in, saved);
    push(std::move(y), std::move(saved.moments));
    release(x);
    if (skip) release_skip(*skip);
  }

  void attention(const AttentionBlock<T, D>& block) {
    const std::size_t x = cache_.activations.size() - 1;
    if (mode_ == Mode::training) cache_.attentions.emplace_back().x = current();
    push(keeps_all() ? block.forward(current(), cache_.attentions.back()) : block(current()));
    release(x);
  }

  void conv(const Conv2d<T, D>& layer) {
    const std::size_t x = cache_.activations.size() - 1;
    push_output(layer, current());
    release(x);
  }

  void push_output(const Conv2d<T, D>& layer, const View& x) {
    typename Conv2d<T, D>::Input in{.x = x};
    Moments moments = layer.make_moments(in);
    in.moments = moments;
    push(layer(in), std::move(moments));
  }

 private:
  bool waits_at_a_skip(std::size_t activation) const {
    for (std::size_t i = 0; i + popped_ < cache_.skips.size(); ++i)
      if (cache_.skips[i] == activation) return true;
    return false;
  }
  void release(std::size_t activation) {
    if (mode_ == Mode::inference && !waits_at_a_skip(activation)) release_skip(activation);
  }
  void release_skip(std::size_t activation) {
    if (mode_ == Mode::training) return;
    cache_.activations[activation] = {};
    cache_.moments[activation] = {};
  }

  bool keeps_all() const { return mode_ == Mode::training && !cache_.recompute; }

  Cache& cache_;
  Mode mode_;
  std::size_t popped_ = 0;
};

template <Element T, Device D>
void UNet<T, D>::check_input(const View& x, const Labels& t, const Labels& labels) const {
  const Shape& s = x.shape();
  check(s.rank() == 4 && s[3] == config_.in_channels, "UNet: x is ", s, ", expected [N, H, W, ",
        config_.in_channels, "]");
  const std::int64_t unit = std::int64_t{1} << (config_.levels() - 1);
  check(s[1] > 0 && s[2] > 0 && s[1] % unit == 0 && s[2] % unit == 0, "UNet: an image of ", s[1], " x ", s[2],
        " cannot be halved ", config_.levels() - 1, " times, its sides must be multiples of ", unit);
  detail::check_shape("UNet", "t", t, {s[0]});
  check(labels.empty() == (config_.num_class_embeds == 0), "UNet: labels are ",
        labels.empty() ? "missing" : "given", " for a model of ", config_.num_class_embeds, " classes");
  detail::check_optional("UNet", "labels", labels, {s[0]});
}

// temb = silu(time_embedding(sinusoids(t)) + class embedding), read by every resnet.
template <Element T, Device D>
void UNet<T, D>::embed_time(const Labels& t, Cache& cache) const {
  const std::int64_t n = t.shape()[0];
  cache.sinusoids = Tensor<T, D>(device(), {n, width(0)});
  timestep_embedding<T, D>(t, {config_.flip_sin_to_cos, config_.freq_shift}, cache.sinusoids);
  cache.embedding = time_embedding_.forward(cache.sinusoids, cache.time_mlp);
  if (!class_embedding_.empty())
    class_embedding<T, D>(class_embedding_.value(), cache.labels, cache.embedding);
  cache.temb = Tensor<T, D>(device(), cache.embedding.shape());
  silu<T, D>(cache.embedding, cache.temb);
}

template <Element T, Device D>
Tensor<T, D> UNet<T, D>::run(const View& x, const Labels& t, Cache& cache, Mode mode) const {
  check_input(x, t, cache.labels);
  Cache fresh;  // gives the memory of the last pass back before any is taken
  fresh.position = cache.position;
  fresh.recompute = cache.recompute;
  fresh.labels = cache.labels;
  cache = std::move(fresh);
  cache.x = x;
  if (config_.center_input_sample) {
    cache.centered = Tensor<T, D>(device(), x.shape());
    affine(x, 2, -1, cache.centered.view());
    cache.x = cache.centered;
  }
  embed_time(t, cache);
  Pass pass(cache, mode);
  pass.push_output(conv_in_, cache.x);
  pass.mark_skip();
  for (const Level& level : down_) {
    for (std::size_t i = 0; i < level.resnets.size(); ++i) {
      pass.resnet(level.resnets[i]);
      if (!level.attentions.empty()) pass.attention(level.attentions[i]);
      pass.mark_skip();
    }
    if (level.resampler) {
      pass.conv(*level.resampler);
      pass.mark_skip();
    }
  }
  pass.resnet(middle_resnets_[0]);
  if (middle_attention_) pass.attention(*middle_attention_);
  pass.resnet(middle_resnets_[1]);
  for (const Level& level : up_) {
    for (std::size_t i = 0; i < level.resnets.size(); ++i) {
      pass.resnet(level.resnets[i], pass.pop_skip());
      if (!level.attentions.empty()) pass.attention(level.attentions[i]);
    }
    if (level.resampler) pass.conv(*level.resampler);
  }
  cache.normalised =
      norm_out_.forward({.x = pass.current(), .moments = pass.current_moments()}, cache.norm_out);
  return conv_out_({.x = cache.normalised});
}

template <Element T, Device D>
struct UNet<T, D>::Backward {
  Cache& cache;
  View dtemb;
  std::size_t activation, resnet, attention;  // how many of each are still ahead
  Tensor<T, D> dy = {};                       // of the current activation
  std::vector<Tensor<T, D>> dskips = {};      // waiting for the down path, which takes the last one first

  const View& input() const {
    return cache.activations[activation - 2];
  }  // of the layer that made the current activation

  void through_resnet(const ResnetBlock<T, D>& block, const View& dskip = {}, const View& add = {}) {
    auto& saved = cache.resnets[--resnet];
    if (cache.recompute) block.forward(saved.in, saved);
    Tensor<T, D> dx(dy.device(), saved.in.x.shape());
    block.backward(dy, saved, {.dx = dx, .dx2 = dskip, .dtemb = dtemb, .add = add});
    if (cache.recompute) saved = {};
    step(std::move(dx));
  }

  void through_attention(const AttentionBlock<T, D>& block) {
    auto& saved = cache.attentions[--attention];
    if (cache.recompute) block.forward(saved.x, saved);
    step(block.backward(dy, saved));
    if (cache.recompute) saved = {};
  }

  void through_conv(const Conv2d<T, D>& layer, const View& add = {}) {
    step(layer.backward(dy, {input(), {}}, add));
  }

  // For a block of the up path, which also reads a skip: where the gradient for that waits.
  View new_skip() {
    const View& x2 = cache.resnets[resnet - 1].in.x2;
    return dskips.emplace_back(x2.device(), x2.shape());
  }

  // For a layer whose input the up path has also read: the gradient from there.
  Tensor<T, D> take_skip() {
    Tensor<T, D> dskip = std::move(dskips.back());
    dskips.pop_back();
    return dskip;
  }

 private:
  void step(Tensor<T, D> dx) {
    dy = std::move(dx);
    --activation;
  }
};

template <Element T, Device D>
void UNet<T, D>::backward(const View& dy, Cache& cache) const {
  check(!parameters_.gradients().empty(),
        "UNet: the model holds no gradients, call parameters().enable_gradients() first");
  const auto dtemb = Tensor<T, D>::zeros(device(), cache.temb.shape());
  Backward state{cache, dtemb, cache.activations.size(), cache.resnets.size(), cache.attentions.size()};
  Tensor<T, D> dnormalised = conv_out_.backward(dy, {cache.normalised, {}});
  state.dy = Tensor<T, D>(device(), cache.norm_out.x.shape());
  norm_out_.backward(dnormalised, cache.norm_out, {.dx = state.dy});
  dnormalised = {};

  for (auto level = up_.rbegin(); level != up_.rend(); ++level) {
    if (level->resampler) state.through_conv(*level->resampler);
    for (std::size_t i = level->resnets.size(); i-- > 0;) {
      if (!level->attentions.empty()) state.through_attention(level->attentions[i]);
      state.through_resnet(level->resnets[i], state.new_skip());
    }
  }
  state.through_resnet(middle_resnets_[1]);
  if (middle_attention_) state.through_attention(*middle_attention_);
  state.through_resnet(middle_resnets_[0], {}, state.take_skip());
  for (auto level = down_.rbegin(); level != down_.rend(); ++level) backward_level(*level, state);
  conv_in_.backward_parameters(state.dy, {cache.x, {}});
  cache.dstem = std::move(state.dy);
  backward_time(dtemb, cache);
}

template <Element T, Device D>
void UNet<T, D>::backward_level(const Level& level, Backward& state) const {
  if (level.resampler) state.through_conv(*level.resampler, state.take_skip());
  for (std::size_t i = level.resnets.size(); i-- > 0;) {
    if (!level.attentions.empty()) state.through_attention(level.attentions[i]);
    state.through_resnet(level.resnets[i], {}, state.take_skip());
  }
}

template <Element T, Device D>
void UNet<T, D>::backward_time(const View& dtemb, const Cache& cache) const {
  Tensor<T, D> dembedding(device(), dtemb.shape());
  silu_backward<T, D>(cache.embedding, dtemb, dembedding);
  if (!class_embedding_.empty())
    class_embedding_backward<T, D>(dembedding, cache.labels, class_embedding_.gradient());
  time_embedding_.backward(dembedding, cache.time_mlp);
}

}  // namespace ddpm
