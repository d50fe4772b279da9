// SPDX-License-Identifier: MIT
// UNet: the noise predictor of Ho et al. 2020, with the options and the parameter names of diffusers'
// UNet2DModel.
#pragma once

#include <optional>
#include <utility>

#include <ddpm/models/unet_config.hpp>
#include <ddpm/nn/attention_block.hpp>
#include <ddpm/nn/conv2d.hpp>
#include <ddpm/nn/resnet_block.hpp>
#include <ddpm/nn/time_embedding.hpp>
#include <ddpm/ops/embedding.hpp>

namespace ddpm {

// Used by one thread at a time: layers keep prepared copies of their weights.
template <Element T, Device D>
class UNet {
 public:
  using value_type = T;
  using device_type = D;
  using View = TensorView<T, D>;
  using Labels = TensorView<std::int32_t, D>;

  // Everything backward() needs; its memory is reused by the next forward(). Borrows t and labels.
  struct Cache {
    RandomPosition position = {};  // of the batch's first sample, for dropout
    bool recompute = false;        // keep only the inputs of the blocks, and run those again in backward()

    View x;  // as conv_in reads it
    Tensor<T, D> centered, sinusoids, embedding, temb;
    Labels labels;
    typename TimeEmbeddingMlp<T, D>::Cache time_mlp;
    std::vector<typename ResnetBlock<T, D>::Cache> resnets;  // in order of execution
    std::vector<typename AttentionBlock<T, D>::Cache> attentions;
    std::vector<Tensor<T, D>> activations;                           // what each layer put out
    std::vector<Tensor<typename Conv2d<T, D>::Moments, D>> moments;  // of each activation, or empty
    std::vector<std::size_t> skips;                                  // which of them the up path reads
    typename GroupNorm<T, D>::Cache norm_out;
    Tensor<T, D> normalised;
    Tensor<T, D> dstem;  // gradient at the output of conv_in, left by backward()
  };

  // Parameters drawn as in the original code of Ho et al.
  UNet(const D& device, const UNetConfig& config, const Rng& rng) : UNet(device, config) {
    parameters_.initialize(rng);
  }

  // All parameters zero, to be loaded.
  UNet(const D& device, const UNetConfig& config)
      : config_(validated(config)),
        parameters_(device),
        conv_in_(parameters_, {config.in_channels, width(0)}),
        time_embedding_(parameters_, width(0), config.time_embedding_dim()),
        norm_out_(parameters_, width(0), {config.norm_num_groups, config.norm_eps, Activation::silu}),
        conv_out_(parameters_,
                  {.in = width(0), .out = config.out_channels, .init_scale = Initializer::nearly_zero}) {
    if (config.num_class_embeds > 0)
      class_embedding_ =
          parameters_.add({config.num_class_embeds, config.time_embedding_dim()}, Initializer::normal(1));
    build_down();
    build_middle();
    build_up();
    parameters_.allocate();
  }

  UNet clone() const {
    UNet copy(device(), config_);
    copy.parameters_.values().copy_from(parameters_.values());
    copy.parameters_.changed();
    return copy;
  }

  const UNetConfig& config() const { return config_; }
  const D& device() const { return parameters_.device(); }
  ParameterBuffer<T, D>& parameters() { return parameters_; }
  const ParameterBuffer<T, D>& parameters() const { return parameters_; }

  // The prediction for x [N, H, W, in_channels] at time steps t [N]; labels [N] for a class-conditional
  // model.
  Tensor<T, D> predict(const View& x, const Labels& t, const Labels& labels = {}) const {
    Cache cache;
    cache.labels = labels;
    return run(x, t, cache, Mode::inference);
  }

  // As predict, and keeps in `cache` what backward() needs. Set cache.position, and cache.labels where the
  // model is class-conditional, before; and cache.recompute to save memory. Keep x and t until backward.
  Tensor<T, D> forward(const View& x, const Labels& t, Cache& cache) const {
    return run(x, t, cache, Mode::training);
  }

  // Adds to the gradients of all parameters; input_gradient() then gives that of x.
  void backward(const View& dy, Cache& cache) const;

  Tensor<T, D> input_gradient(const Cache& cache) const {
    Tensor<T, D> dx(device(), cache.x.shape());
    conv_in_.backward_data(cache.dstem, dx);
    if (config_.center_input_sample) affine(dx.view(), 2, 0, dx.view());
    return dx;
  }

  // Calls f(name, parameter) for every parameter, by its diffusers name and in diffusers' order.
  template <class F>
  void visit(const std::string& prefix, F&& f) const;

 private:
  enum class Mode { inference, training };

  struct Level {
    std::vector<AttentionBlock<T, D>> attentions;  // empty, or one after each resnet
    std::vector<ResnetBlock<T, D>> resnets;
    std::optional<Conv2d<T, D>> resampler;  // to the next level
  };

  // The running state of a forward pass: which activation is the current one, and when others may go.
  class Pass;
  // The running state of a backward pass: the gradient of the current activation, and those waiting at the
  // skips.
  struct Backward;

  int width(int level) const { return config_.block_out_channels[static_cast<std::size_t>(level)]; }
  ResnetConfig resnet_config(int in, int out) const {
    return {.in = in,
            .out = out,
            .time_embedding_dim = config_.time_embedding_dim(),
            .groups = config_.norm_num_groups,
            .eps = config_.norm_eps,
            .dropout = config_.dropout,
            .time_scale_shift = config_.resnet_time_scale_shift};
  }
  AttentionConfig attention_config(int channels) const {
    return {.channels = channels,
            .head_dim = config_.attention_head_dim.value_or(channels),
            .groups = config_.norm_num_groups,
            .eps = config_.norm_eps};
  }
  static const UNetConfig& validated(const UNetConfig& config);
  void build_down();
  void build_middle();
  void build_up();

  void check_input(const View& x, const Labels& t, const Labels& labels) const;
  void embed_time(const Labels& t, Cache& cache) const;
  Tensor<T, D> run(const View& x, const Labels& t, Cache& cache, Mode mode) const;
  void backward_level(const Level& level, Backward& state) const;
  void backward_time(const View& dtemb, const Cache& cache) const;

  UNetConfig config_;
  ParameterBuffer<T, D> parameters_;
  Conv2d<T, D> conv_in_;
  TimeEmbeddingMlp<T, D> time_embedding_;
  Parameter<T, D> class_embedding_;
  std::vector<Level> down_;
  std::vector<ResnetBlock<T, D>> middle_resnets_;  // two
  std::optional<AttentionBlock<T, D>> middle_attention_;
  std::vector<Level> up_;
  GroupNorm<T, D> norm_out_;
  Conv2d<T, D> conv_out_;
};

}  // namespace ddpm

#include <ddpm/models/detail/unet_build.hpp>
#include <ddpm/models/detail/unet_run.hpp>
