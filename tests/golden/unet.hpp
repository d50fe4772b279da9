// SPDX-License-Identifier: MIT
// Fixtures of whole U-Nets: io.safetensors, grads.safetensors and adamw3.safetensors beside a model.
#pragma once

#include "checker.hpp"

namespace golden {

using namespace ddpm;

// Labels of a class-conditional model, where the fixture has them.
template <class D>
Tensor<std::int32_t, D> labels_of(const Fixture<D>& f, const std::string& suffix) {
  for (const std::string& name :
       {"class_labels" + suffix, "labels" + suffix, "train_labels" + suffix, "train_class_labels" + suffix})
    if (f.has(name)) return f.integers(name);
  return {};
}

// Forward, loss and backward; returns the loss.
template <class T, class D>
double backpropagate(UNet<T, D>& model, typename UNet<T, D>::Cache& cache, const Tensor<T, D>& prediction,
                     const Tensor<float, D>& target) {
  Tensor<float, D> loss(model.device(), {1});
  mse_loss<T, D>({prediction, target}, loss, prediction);
  model.backward(prediction, cache);
  return static_cast<double>(loss.to_host().front());
}

template <class T, class D>
void check_gradients(const Fixture<D>& f, UNet<T, D>& model) {
  const auto x = f.template tensor<T>("x");
  const auto target = f.tensor("target");
  const auto t = f.integers("timesteps");
  const auto labels = labels_of(f, "");
  typename UNet<T, D>::Cache cache;
  cache.labels = labels;
  model.parameters().enable_gradients();
  model.parameters().gradients().zero();
  const auto prediction = model.forward(x, t, cache);
  f.compare("out", prediction, f.limits().unet_output);
  const double loss = backpropagate(model, cache, prediction, target);
  f.line("loss", relative_error(std::vector{loss}, f.values("loss")), f.limits().loss);
  f.compare("grad_x", model.input_gradient(cache), f.limits().input_gradient);
  Tensor<float, D> squares(model.device(), {1});
  squared_norm<float, D>(model.parameters().gradients(), squares);
  const std::vector<double> norm{std::sqrt(static_cast<double>(squares.to_host().front()))};
  f.line("grad_norm", relative_error(norm, f.values("grad_norm")), f.limits().gradient_norm);
  const auto grads = f.path().parent_path() / "grads.safetensors";
  if (std::filesystem::exists(grads))
    Fixture<D>(grads, f.device(), f.limits(), f.report())
        .compare_gradients(model, "", "", f.limits().parameter_gradient);
}

template <class T, class D>
void check_scalar_timestep(const Fixture<D>& f, const UNet<T, D>& model) {
  const std::string before = "out_scalar_t_";
  for (const std::string& name : f.file().names()) {
    if (!name.starts_with(before)) continue;
    const auto x = f.template tensor<T>("x");
    const auto labels = labels_of(f, "");
    const std::vector<std::int32_t> t(static_cast<std::size_t>(x.shape()[0]),
                                      std::stoi(name.substr(before.size())));
    f.compare(name, model.predict(x, Tensor<std::int32_t, D>(f.device(), {x.shape()[0]}, t), labels),
              f.limits().unet_output);
  }
}

// The median, the 99.9 % quantile and the largest of the absolute differences after training.
template <class T, class D>
void check_weights(const Fixture<D>& f, const UNet<T, D>& model) {
  std::vector<double> differences;
  double worst_zero_gradient = 0;
  model.visit("", [&](const std::string& name, const auto& parameter) {
    const auto ours = Fixture<D>::torch_order(parameter.value()), theirs = f.values(name);
    if (name.ends_with("to_k.bias")) {
      worst_zero_gradient = std::max(worst_zero_gradient, largest_difference(ours, theirs));
      return;
    }
    for (std::size_t i = 0; i < ours.size(); ++i) differences.push_back(std::abs(ours[i] - theirs[i]));
  });
  std::sort(differences.begin(), differences.end());
  const auto quantile = [&](double q) {
    return differences[static_cast<std::size_t>(q * double(differences.size() - 1))];
  };
  f.line("median", quantile(0.5), f.limits().adamw_median);
  f.line("99.9 %", quantile(0.999), f.limits().adamw_most);
  f.line("max", quantile(1), f.limits().adamw_max);
  f.line("max of to_k.bias", worst_zero_gradient, f.limits().adamw_max_zero_gradient);
}

template <class T, class D>
void check_training(const Fixture<D>& f, UNet<T, D>& model) {
  AdamW optimizer{model, {.lr = 1e-3, .weight_decay = 0.01}};
  model.parameters().gradients().zero();
  std::vector<double> losses;
  for (int i = 0; f.has("train_x." + std::to_string(i)); ++i) {
    const std::string step = message(".", i);
    const auto x = f.template tensor<T>("train_x" + step);
    const auto target = f.tensor("train_target" + step);
    const auto t = f.integers("train_t" + step);
    const auto labels = labels_of(f, step);
    typename UNet<T, D>::Cache cache;
    cache.labels = labels;
    const auto prediction = model.forward(x, t, cache);
    losses.push_back(backpropagate(model, cache, prediction, target));
    optimizer.step();
  }
  if (losses.empty()) return;
  f.line("adam_losses", relative_error(losses, f.values("adam_losses")), f.limits().loss);
  const auto trained = f.path().parent_path() / "adamw3.safetensors";
  // AdamW makes whole steps of gradients that are nothing but rounding.
  if (std::is_same_v<T, float> && std::filesystem::exists(trained))
    check_weights(Fixture<D>(trained, f.device(), f.limits(), f.report()), model);
}

template <class T, class D>
void check_unet(const Fixture<D>& f) {
  auto model = io::load_diffusers<UNet<T, D>>(f.path().parent_path(), f.device());
  check_scalar_timestep(f, model);
  check_gradients(f, model);
  check_training(f, model);
}

// Any model folder: it loads, and this is what it holds.
template <class T, class D>
void count_parameters(const std::filesystem::path& weights, const D& device) {
  const auto model = io::load_diffusers<UNet<T, D>>(weights.parent_path(), device);
  std::int64_t tensors = 0, parameters = 0;
  model.visit("", [&](const std::string&, const auto& parameter) {
    ++tensors;
    parameters += parameter.shape().numel();
  });
  std::printf("%s  %lld tensors  %lld parameters\n", weights.string().c_str(),
              static_cast<long long>(tensors), static_cast<long long>(parameters));
}

}  // namespace golden
