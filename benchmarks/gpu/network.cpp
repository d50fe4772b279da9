// SPDX-License-Identifier: MIT
#include <memory>
#include <optional>

#include <ddpm/compiled.hpp>
#include <ddpm/ddpm.hpp>

#include "network.hpp"

namespace ddpm::benchmarks {

namespace {

std::int64_t forward_flops(const UNetConfig& config, const Shape& images) {
  DryRunUsage usage;
  const DryRun<Cuda> device{&usage};
  const UNet<float, DryRun<Cuda>> model(device, config);
  model.predict(Tensor<float, DryRun<Cuda>>(device, images),
                Tensor<std::int32_t, DryRun<Cuda>>(device, {images[0]}));
  return usage.flops;
}

template <class T>
struct Network {
  using Net = UNet<T, Cuda>;

  Shape shape;
  Rng rng{42};
  Diffusion<Net, LinearSchedule> diffusion;
  AdamW<Net> optimizer;
  Ema<Net> ema;
  TrainingStep<Net, LinearSchedule> training{diffusion, optimizer, &ema};
  Tensor<std::uint8_t, Cuda> pixels;
  Tensor<T, Cuda> x;
  Tensor<std::int32_t, Cuda> t;
  std::optional<Sampling<Net>> sampling = {};

  Network(const Cuda& device, const UNetConfig& config, const Shape& images)
      : shape(images),
        diffusion(Net{device, config, rng}, LinearSchedule{}),
        optimizer(diffusion.model(), {.lr = 2e-4, .grad_clip = 1}),
        ema(diffusion.model(), 0.9999),
        pixels(Tensor<std::uint8_t, Cuda>::zeros(device, images)),
        x(device, images),
        t(Tensor<std::int32_t, Cuda>::zeros(device, {images[0]})) {
    fill_normal<T, Cuda>({rng.seed, 0, 0, RandomStream::initial_noise}, x);
  }

  void forward() { diffusion.model().predict(x, t); }
  void train() { training({.pixels = pixels, .flip = true}, rng); }
  void sample() {
    if (!sampling || sampling->done() == sampling->steps()) {
      sampling.emplace(diffusion.with(diffusion.model()).begin(Ancestral{}, shape));
      fill_normal<float, Cuda>({rng.seed, 0, 0, RandomStream::initial_noise}, sampling->x());
    }
    sampling->replay({rng.seed, 0, 0, RandomStream::sampler_noise});
  }
};

}  // namespace

template <class T>
NetworkSteps network_steps(const Cuda& device, int n) {
  const UNetConfig config = UNetConfig::cifar10();
  const Shape images{n, config.height, config.width, config.in_channels};
  const auto network = std::make_shared<Network<T>>(device, config, images);
  return {[network] { network->forward(); }, [network] { network->train(); },
          [network] { network->sample(); }, forward_flops(config, images)};
}

template NetworkSteps network_steps<float>(const Cuda&, int);
template NetworkSteps network_steps<bf16>(const Cuda&, int);

}  // namespace ddpm::benchmarks
