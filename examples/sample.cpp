// SPDX-License-Identifier: MIT
// Samples a diffusers folder; sample --help lists the options.
#include <functional>

#include "target.hpp"

#include <ddpm/io.hpp>

namespace example {

using namespace ddpm;

// What is left empty comes from the folder's scheduler.
struct Options {
  Target target;
  std::filesystem::path checkpoint, out, raw, noise;
  std::string sampler, spacing, variance;
  std::optional<int> label;
  int steps = 0;
  double eta = 0;
  bool no_clip = false, torch_cpu_seed = false;
  std::int64_t count = 16, batch = 16;
  std::uint64_t seed = 0;
};

// The folder's scheduler, with what the command line says in place of its own.
io::SchedulerConfig scheduler_of(const Options& o) {
  io::SchedulerConfig config = io::load_scheduler_config(o.checkpoint);
  if (o.sampler == "ancestral") config.class_name = "DDPMScheduler";
  if (o.sampler == "ddim" && config.is_ddpm()) config.class_name = "DDIMScheduler";
  if (!o.spacing.empty()) config.timestep_spacing = o.spacing;
  if (!o.variance.empty()) config.variance_type = o.variance;
  if (o.no_clip) config.clip_sample = config.thresholding = false;
  check<ConfigError>(o.eta == 0 || !config.is_ddpm(),
                     "found --eta for ancestral sampling, expected --sampler ddim");
  check<ConfigError>(o.variance.empty() || config.is_ddpm(),
                     "found --variance for ddim, expected --sampler ancestral");
  return config;
}

// Whether diffusers draws noise for the step at t, be its variance 0 or not.
bool draws(const Ancestral&, int t) { return t > 0; }
bool draws(const Ddim& sampler, int) { return sampler.eta > 0; }

// The images to draw: [N, H, W, C].
Shape images_of(const Options& o, const UNetConfig& config) {
  Shape images{o.count, config.height, config.width, config.in_channels};
  if (!o.noise.empty()) {
    const auto stored = io::SafeTensors(o.noise).tensor("x_T").shape;
    check<ConfigError>(stored.size() == 4 && stored[1] == config.in_channels, o.noise.string(),
                       ": found x_T of another shape, expected [N, ", config.in_channels, ", H, W]");
    images = {stored[0], stored[2], stored[3], stored[1]};
  }
  check<ConfigError>(images.numel() > 0, o.checkpoint.string(),
                     ": found no sample_size, expected one, or the size in a file given to --noise");
  check<ConfigError>(o.out.empty() || images[3] == 1 || images[3] == 3, "found ", images[3],
                     " channels, expected 1 or 3 for --out; --raw writes any");
  return images;
}

// The labels of a batch; empty for a model without classes.
template <Element T, Device D>
Tensor<std::int32_t, D> labels_of(const Options& o, const UNet<T, D>& model, std::int64_t batch) {
  const int classes = model.config().num_class_embeds;
  const std::string found = o.label ? message("--class ", *o.label) : "no --class";
  if (classes == 0) {
    check<ConfigError>(!o.label, "found ", found, ", expected none for a model without classes");
    return {};
  }
  check<ConfigError>(o.label && *o.label >= 0 && *o.label < classes, "found ", found,
                     ", expected one from 0 to ", classes - 1, " for a model of ", classes, " classes");
  return {model.device(), {batch}, std::vector(static_cast<std::size_t>(batch), *o.label)};
}

// [N, rows, columns] -> [N, columns, rows]: between torch's [N, C, HW] and our [N, HW, C].
std::vector<float> transposed(std::span<const float> in, std::int64_t rows, std::int64_t columns) {
  std::vector<float> out;
  out.reserve(in.size());
  for (; !in.empty(); in = in.subspan(static_cast<std::size_t>(rows * columns)))
    for (std::int64_t column = 0; column < columns; ++column)
      for (std::int64_t row = 0; row < rows; ++row)
        out.push_back(in[static_cast<std::size_t>(row * columns + column)]);
  return out;
}

// The next noise [N, H, W, C] of a run in which x_T comes first, then that of each step that draws.
using NoiseSource = std::function<std::vector<float>(const Shape&)>;

// Calls next(floats) for numbers in torch's order.
template <class Next>
NoiseSource torch_order(Next next) {
  return [next](const Shape& shape) mutable {
    std::vector<float> values(static_cast<std::size_t>(shape.numel()));
    next(std::span(values));
    return transposed(values, shape[3], shape[1] * shape[2]);
  };
}

NoiseSource noise_of(const Options& o, std::size_t steps) {
  if (o.torch_cpu_seed)
    return torch_order(
        [torch = TorchCpuGenerator{o.seed}](std::span<float> out) mutable { torch.randn(out); });
  if (o.noise.empty()) return {};
  const io::SafeTensors file{o.noise};
  auto values = file.as<float>("x_T");
  if (file.contains("z")) {
    const auto z = file.as<float>("z");
    check<ConfigError>(z.size() == steps * values.size(), o.noise.string(), ": found ", z.size(),
                       " numbers in z, expected ", steps, " steps of ", values.size());
    values.insert(values.end(), z.begin(), z.end());
  }
  return torch_order([values, at = std::size_t{0}](std::span<float> out) mutable {
    check<ConfigError>(at + out.size() <= values.size(),
                       "found no z in the file of --noise, expected it as the steps draw noise");
    std::copy_n(values.begin() + std::ptrdiff_t(std::exchange(at, at + out.size())), out.size(), out.begin());
  });
}

// All images [N, H, W, C], batch by batch.
template <class Process, Sampler S>
std::vector<float> sample(const Options& o, const Process& process, const S& sampler, const Shape& images) {
  using D = typename Process::D;
  const auto& model = process.model();
  const auto plan = sampler.plan(process.levels(), process.options().prediction);
  const NoiseSource noise = noise_of(o, plan.size());
  const std::int64_t batch = o.noise.empty() ? o.batch : images[0];
  std::vector<float> all;
  Rng rng{o.seed};
  const StopSignals stop;
  ProgressBar bar{"sampling"};
  std::string details;
  for (std::int64_t first = 0; first < images[0]; first += batch) {
    const std::int64_t count = std::min(batch, images[0] - first);
    const auto labels = labels_of(o, model, count);
    auto sampling = process.with(model).begin(sampler, {count, images[1], images[2], images[3]});
    sampling.condition(labels);
    RandomPosition position = rng.next_images(count, RandomStream::initial_noise);
    const Shape& batch_shape = sampling.x().shape();
    noise ? sampling.x().upload(noise(batch_shape)) : fill_normal<float, D>(position, sampling.x());
    position.stream = RandomStream::sampler_noise;
    for (const auto& step : plan) {
      Tensor<float, D> z;
      if (noise && draws(sampler, step.t)) z = {model.device(), batch_shape, noise(batch_shape)};
      noise ? sampling.step(position, z) : sampling.replay(position);
      details = message("step ", sampling.done(), " of ", plan.size(), ", images ", first + 1, " to ",
                        first + count, " of ", images[0]);
      check<Error>(!stop.received(), "stopped after ", details, ", nothing was written");
      bar.update((double(first) + double(count) * sampling.done() / sampling.steps()) / double(images[0]),
                 details);
    }
    const auto drawn = sampling.x().to_host();
    all.insert(all.end(), drawn.begin(), drawn.end());
  }
  bar.complete(details);
  return all;
}

void write(const Options& o, const std::vector<float>& samples, const Shape& images) {
  if (!o.raw.empty()) {
    const auto values = transposed(samples, images[1] * images[2], images[3]);
    const io::TensorToWrite tensor{
        "samples", io::DType::f32, {images[0], images[3], images[1], images[2]}, values.data()};
    io::write_safetensors(o.raw, {&tensor, 1});
  }
  if (!o.out.empty()) io::write_grid(o.out, samples, images);
}

template <Element T, Device D>
int run(const Options& o, const D& device) {
  for (const std::filesystem::path& file : {o.out, o.raw})
    check<IoError>(file.empty() || is_directory(absolute(file).parent_path()), file.string(),
                   ": found no folder to write it in, expected one");
  const io::SchedulerConfig scheduler = scheduler_of(o);
  const Diffusion process{io::load_diffusers<UNet<T, D>>(o.checkpoint, device),
                          io::schedule_of(scheduler),
                          {.prediction = io::prediction_of(scheduler)}};
  const Shape images = images_of(o, process.model().config());
  auto sampler = io::sampler_of(scheduler, o.steps);
  if (auto* ddim = std::get_if<Ddim>(&sampler)) ddim->eta = o.eta;
  write(o, std::visit([&](const auto& method) { return sample(o, process, method, images); }, sampler),
        images);
  return 0;
}

void add_options(CLI::App& app, Options& o) {
  app.add_option("checkpoint", o.checkpoint, "folder of a pipeline or of its U-Net")->required();
  app.add_option("--sampler", o.sampler, "ancestral or ddim")->check(CLI::IsMember({"ancestral", "ddim"}));
  app.add_option("--steps", o.steps, "steps of the sampler; 0: ancestral all, ddim 50");
  app.add_option("--eta", o.eta, "randomness of ddim")->check(CLI::Range(0.0, 1.0));
  app.add_flag("--no-clip", o.no_clip, "leave the predicted image as it is, outside of [-1, 1] too");
  app.add_option("--spacing", o.spacing, "of the time steps: leading, linspace or trailing")
      ->check(CLI::IsMember({"leading", "linspace", "trailing"}));
  app.add_option("--variance", o.variance, "of ancestral steps: fixed_small or fixed_large")
      ->check(CLI::IsMember({"fixed_small", "fixed_large"}));
  app.add_option("--class", o.label, "the class to draw, for a class-conditional model");
  auto* count = app.add_option("--count", o.count, "images to draw")->check(CLI::PositiveNumber);
  auto* batch = app.add_option("--batch", o.batch, "images at a time")->check(CLI::PositiveNumber);
  auto* seed = app.add_option("--seed", o.seed, "seed of the noise");
  add_target(app, o.target);
  auto* torch = app.add_flag("--torch-cpu-seed", o.torch_cpu_seed,
                             "draw what diffusers draws after torch.manual_seed(SEED) on a CPU");
  app.add_option("--noise", o.noise,
                 "safetensors file of x_T [N, C, H, W] and, where steps draw noise, z [steps, N, C, H, W]")
      ->excludes(count, batch, seed, torch);
  auto* results = app.add_option_group("results");
  results->add_option("--out", o.out, "PNG of all images in a grid");
  results->add_option("--raw", o.raw, "safetensors file of samples [N, C, H, W], not clamped");
  results->require_option(1, 2);
}

}  // namespace example

int main(int argc, char** argv) try {
  example::Options options;
  CLI::App app{"Sample a diffusers folder. What is not given comes from its scheduler."};
  app.option_defaults()->always_capture_default();
  example::add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  return example::run_on_target(options);
} catch (const std::exception& error) {
  std::fprintf(stderr, "sample: %s\n", error.what());
  return 1;
}
