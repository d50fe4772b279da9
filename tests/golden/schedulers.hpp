// SPDX-License-Identifier: MIT
// Fixtures of schedules, time steps, single reverse steps, noising and whole sampling trajectories.
#pragma once

#include <regex>

#include "checker.hpp"

namespace golden {

using namespace ddpm;

// <beta_schedule>_T<steps>_<beta_start>_<beta_end>.<what>
template <class D>
void check_schedules(const Fixture<D>& f) {
  const std::regex pattern(R"((\w+?)_T(\d+)_([^_]+)_([^_]+)\.(betas|alphas_cumprod)(_f64)?)");
  for (const std::string& name : f.file().names()) {
    std::smatch part;
    if (!std::regex_match(name, part, pattern)) {
      f.report().failure(f.path().string(),
                         name + " is not <schedule>_T<steps>_<start>_<end>.<betas|alphas_cumprod>");
      continue;
    }
    io::SchedulerConfig config;
    config.beta_schedule = part[1];
    config.num_train_timesteps = std::stoi(part[2]);
    config.beta_start = std::stod(part[3]);
    config.beta_end = std::stod(part[4]);
    const NoiseLevels levels(io::schedule_of(config));
    const auto& ours = part[5] == "betas" ? levels.beta : levels.alpha_bar;
    f.line(name, relative_error(ours, f.values(name)),
           part[6].matched ? f.limits().schedule_f64 : f.limits().schedule_f32);
  }
}

inline Spacing spacing_named(const std::string& name) {
  return name == "trailing" ? Spacing::trailing : name == "linspace" ? Spacing::linspace : Spacing::leading;
}

// <ddpm|ddim>.<spacing>.<steps>.offset<offset>
template <class D>
void check_timesteps(const Fixture<D>& f) {
  const std::regex pattern(R"((\w+)\.(\w+)\.(\d+)\.offset(\d+))");
  const int total = static_cast<int>(f.number("num_train_timesteps", 1000));
  for (const std::string& name : f.file().names()) {
    std::smatch part;
    if (!std::regex_match(name, part, pattern)) {
      f.report().failure(f.path().string(), name + " is not <sampler>.<spacing>.<steps>.offset<offset>");
      continue;
    }
    const auto ours = spaced_timesteps(total, std::stoi(part[3]), spacing_named(part[2]), std::stoi(part[4]));
    f.line(name, largest_difference(std::vector<double>(ours.begin(), ours.end()), f.values(name)), 0);
  }
}

inline LinearSchedule linear_schedule() { return {}; }

// Runs one step on the device and compares x and, where it is stored, the predicted image.
template <class D>
void check_step(const Fixture<D>& f, const std::string& name, const DenoisingCoefficients<double>& k,
                double clip) {
  const D& device = f.device();
  Tensor<float, D> x = f.tensor("x_t"), x0(device, x.shape());
  const DenoisingCoefficients<float> row{float(k.x0_from_x),
                                         float(k.x0_from_m),
                                         float(k.x_from_x0),
                                         float(k.x_from_x),
                                         float(k.x_from_m),
                                         float(k.sigma),
                                         k.t};
  const Tensor<DenoisingCoefficients<float>, D> table(device, {1}, std::vector{row});
  const auto step = Tensor<std::int32_t, D>::zeros(device, {1});
  denoise<float, D>({.model_output = f.tensor("model_output"),
                     .table = table,
                     .step = step,
                     .noise = f.tensor("z"),
                     .x0 = x0},
                    clip, x);
  f.compare(name + ".prev_sample", x, Limits::step(k.t));
  if (f.has(name + ".x0")) f.compare(name + ".x0", x0, Limits::step(k.t));
}

// ddpm: <variance>.<prediction>.clip<0|1>.t<t>.prev_sample; ddim:
// one<0|1>.eta<eta>.<prediction>.clip<0|1>.t<t>.prev_sample
template <class D>
void check_steps(const Fixture<D>& f) {
  const std::regex ddpm_name(R"((fixed_small|fixed_large)\.(\w+)\.clip([01])\.t(\d+)\.prev_sample)");
  const std::regex ddim_name(R"(one([01])\.eta([0-9.]+?)\.(\w+)\.clip([01])\.t(\d+)\.prev_sample)");
  io::SchedulerConfig config;
  config.beta_schedule = f.meta("beta_schedule", "linear");
  const NoiseLevels levels(io::schedule_of(config));
  const int stride = levels.steps() / static_cast<int>(f.number("num_inference_steps", levels.steps()));
  const double range = f.number("clip_sample_range", 1);
  for (const std::string& name : f.file().names()) {
    if (!name.ends_with(".prev_sample")) continue;
    const std::string stem = name.substr(0, name.rfind('.'));
    std::smatch part;
    if (std::regex_match(name, part, ddpm_name)) {
      config.prediction_type = part[2];
      const Ancestral sampler{.variance =
                                  part[1] == "fixed_large" ? Variance::fixed_large : Variance::fixed_small};
      const int t = std::stoi(part[4]);
      check_step(f, stem, sampler.step(levels, io::prediction_of(config), t, t - stride),
                 part[3] == "1" ? range : no_clip);
    } else if (std::regex_match(name, part, ddim_name)) {
      config.prediction_type = part[3];
      const Ddim sampler{.eta = std::stod(part[2]), .alpha_to_one = part[1] == "1"};
      const int t = std::stoi(part[5]);
      check_step(f, stem, sampler.step(levels, io::prediction_of(config), t, t - stride),
                 part[4] == "1" ? range : no_clip);
    } else {
      f.report().failure(f.path().string(), name + " is the step of no known sampler");
    }
  }
}

// A model that Diffusion can hold where none is needed.
template <class D>
struct NoModel {
  using value_type = float;
  using device_type = D;
  D at;
  D device() const { return at; }
  Tensor<float, D> predict(const TensorView<float, D>& x, const TensorView<std::int32_t, D>&) const {
    return Tensor<float, D>::zeros(at, x.shape());
  }
};

// <schedule>.x_t and <schedule>.velocity of x0, noise and timesteps.
template <class D>
void check_add_noise(const Fixture<D>& f) {
  const auto x0 = f.tensor("x0"), noise = f.tensor("noise");
  const auto t = f.integers("timesteps");
  for (const std::string& name : f.file().names()) {
    if (!name.ends_with(".x_t")) continue;
    io::SchedulerConfig config;
    config.beta_schedule = name.substr(0, name.rfind('.'));
    const Diffusion diffusion{NoModel<D>{f.device()}, io::schedule_of(config), {.prediction = Prediction::v}};
    Tensor<float, D> xt(f.device(), x0.shape()), velocity(f.device(), x0.shape());
    diffusion.add_noise({.images = x0}, t, noise, xt, velocity);
    f.compare(name, xt, f.limits().schedule_f32);
    f.compare(config.beta_schedule + ".velocity", velocity, f.limits().schedule_f32);
  }
}

// The spacing that visits the stored time steps.
inline Spacing spacing_of(const std::vector<double>& timesteps, int total, int offset) {
  for (const Spacing spacing : {Spacing::leading, Spacing::trailing, Spacing::linspace}) {
    const auto visited = spaced_timesteps(total, static_cast<int>(timesteps.size()), spacing, offset);
    if (std::equal(visited.begin(), visited.end(), timesteps.begin(), timesteps.end())) return spacing;
  }
  throw ConfigError("golden_check: the stored time steps are those of no spacing");
}

template <class D, class S>
void follow(const Fixture<D>& f, const UNet<float, D>& model, const NoiseLevels& levels,
            Prediction prediction, const S& sampler) {
  const Tensor<float, D> start = f.tensor("x_T");
  Sampling<UNet<float, D>> sampling =
      Denoiser<UNet<float, D>>(model, levels, {prediction}).begin(sampler, start.shape());
  sampling.x().copy_from(start);
  const auto trajectory = f.values("traj");
  const auto noise = f.has("z") ? f.file().template as<float>("z") : std::vector<float>{};
  const auto size = static_cast<std::size_t>(start.numel());
  for (int i = 0; i < sampling.steps(); ++i) {
    const std::size_t first = static_cast<std::size_t>(i) * size;
    Tensor<float, D> z;
    if (!noise.empty())
      z = Tensor<float, D>(
          f.device(), start.shape(),
          io::detail::reorder(std::vector<float>(noise.begin() + std::ptrdiff_t(first),
                                                 noise.begin() + std::ptrdiff_t(first + size)),
                              start.shape(), io::detail::Direction::from_torch));
    sampling.step({}, z);
    f.line(
        "traj[" + std::to_string(i) + "]",
        largest_difference(Fixture<D>::torch_order(sampling.x()), std::span(trajectory).subspan(first, size)),
        f.limits().trajectory);
  }
}

// The model's output at one stored state of the trajectory.
template <class D>
void check_output(const Fixture<D>& f, const UNet<float, D>& model, const std::string& name,
                  const Tensor<float, D>& x, double timestep) {
  if (!f.has(name)) return;
  const std::vector<std::int32_t> t(static_cast<std::size_t>(x.shape()[0]),
                                    static_cast<std::int32_t>(timestep));
  f.compare(name, model.predict(x, Tensor<std::int32_t, D>(f.device(), {x.shape()[0]}, t)),
            f.limits().trajectory);
}

// ddim* and ddpm* beside a model folder: x_T, timesteps, traj, and z where noise is drawn. The file's name or
// metadata say eta<eta>, noclip, fixed_large where they differ from the scheduler's configuration.
template <class D>
void check_trajectory(const Fixture<D>& f) {
  const auto folder = f.path().parent_path();
  const auto model = io::load_diffusers<UNet<float, D>>(folder, f.device());
  const io::SchedulerConfig config = io::load_scheduler_config(folder);
  const NoiseLevels levels(io::schedule_of(config));
  const Prediction prediction = io::prediction_of(config);
  const std::string name = f.path().stem().string();
  const auto timesteps = f.values("timesteps");
  const int steps = static_cast<int>(timesteps.size());
  const bool clips = f.meta("clip_sample", config.clip_sample ? "true" : "false") == "true" &&
                     name.find("noclip") == std::string::npos;
  const double clip = clips ? config.clip_sample_range : no_clip;
  const Spacing spacing = spacing_of(timesteps, levels.steps(), config.steps_offset);
  if (name.starts_with("ddim")) {
    std::smatch part;
    const bool named = std::regex_search(name, part, std::regex(R"(eta([0-9]+(\.[0-9]+)?))"));
    const double eta = f.number("eta", named ? std::stod(part[1]) : 0);
    follow(f, model, levels, prediction,
           Ddim{.steps = steps,
                .eta = eta,
                .clip = clip,
                .spacing = spacing,
                .offset = config.steps_offset,
                .previous = Previous::diffusers,
                .alpha_to_one = config.set_alpha_to_one});
  } else {
    const bool large = f.meta("variance_type", config.variance_type) == "fixed_large" ||
                       name.find("fixed_large") != std::string::npos;
    follow(f, model, levels, prediction,
           Ancestral{.steps = steps,
                     .variance = large ? Variance::fixed_large : Variance::fixed_small,
                     .clip = clip,
                     .spacing = spacing,
                     .offset = config.steps_offset,
                     .previous = Previous::diffusers});
  }
  check_output(f, model, "eps_first", f.tensor("x_T"), timesteps.front());
  if (f.has("eps_last") && steps > 1) {
    const Shape shape = f.shape("x_T");
    const auto all = f.file().template as<float>("traj");
    const auto size = std::ptrdiff_t(shape.numel());
    const std::vector<float> before_last(all.end() - 2 * size, all.end() - size);
    check_output(f, model, "eps_last",
                 Tensor<float, D>(f.device(), shape,
                                  io::detail::reorder(before_last, shape, io::detail::Direction::from_torch)),
                 timesteps.back());
  }
}

}  // namespace golden
