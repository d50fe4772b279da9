// SPDX-License-Identifier: MIT
// A run of a Trainer as a folder: what diffusers loads to sample with, and training_state.safetensors, with which the
// run continues exactly.
//
// unet/ holds the weights to sample with: the first average where there is one. The state holds the rest: the weights
// (beside an average), the moments, further averages and, within a step, the gradients, under diffusers' names and in
// this library's memory order; its metadata holds the position, the configuration and the version of the library.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ddpm/io/detail/json.hpp>
#include <ddpm/io/detail/replace_folder.hpp>
#include <ddpm/io/diffusers.hpp>
#include <ddpm/io/parameters.hpp>
#include <ddpm/io/safetensors.hpp>
#include <ddpm/io/weights.hpp>
#include <ddpm/train/trainer.hpp>
#include <ddpm/version.hpp>

namespace ddpm::io {

// What a checkpoint holds beside the trainer.
struct RunRecord {
  detail::OrderedJson configuration = {};  // what a run that continues must agree in
  std::int64_t best_step = 0;              // of the least held-out loss so far; 0: none was measured
  double best_loss = std::numeric_limits<double>::infinity();
};

inline constexpr const char* training_state_file = "training_state.safetensors";

namespace detail {

// Calls f(name, buffer, from) for every buffer of the run that training_state.safetensors holds: flat, and laid out as
// the parameters of the model.
template <class T, class F>
void visit_buffers(T& trainer, bool holds_gradients, F&& f) {
  const auto& parameters = trainer.model().parameters();
  f("first_moment/", trainer.optimizer().first());
  f("second_moment/", trainer.optimizer().second());
  if (!trainer.averages().empty()) f("weight/", parameters.values());
  for (std::size_t i = 1; i < trainer.averages().size(); ++i)
    f(message("average_", i + 1, "/"), trainer.averages()[i].model().parameters().values());
  if (holds_gradients) f("gradient/", parameters.gradients());
}

// Calls f(name, offset, shape) for every parameter, by its place in a flat buffer.
template <class M, class F>
void visit_places(const M& model, F&& f) {
  model.visit("", [&](const std::string& name, const auto& parameter) {
    f(name, parameter.value().data() - model.parameters().values().data(), parameter.shape());
  });
}

inline OrderedJson position_json(const TrainerPosition& at) {
  return {{"step", at.step},     {"batches", at.batches},     {"loss", at.loss},        {"cursor", at.cursor},
          {"seed", at.rng.seed}, {"samples", at.rng.samples}, {"images", at.rng.images}};
}

template <class T>
T number_at(const Json& json, const char* key, const std::string& path) {
  const auto found = json.find(key);
  const bool fits = found != json.end() &&
                    (std::integral<T> ? found->is_number_integer() && *found >= 0 : found->is_number());
  if (!fits) fail(path, message("no number ", key, " in its metadata"), "a training state of this library");
  return found->template get<T>();
}

inline TrainerPosition parse_position(const Json& json, const std::string& path) {
  return {.step = number_at<std::int64_t>(json, "step", path),
          .batches = number_at<int>(json, "batches", path),
          .loss = number_at<double>(json, "loss", path),
          .cursor = number_at<std::int64_t>(json, "cursor", path),
          .rng = {.seed = number_at<std::uint64_t>(json, "seed", path),
                  .samples = number_at<std::uint64_t>(json, "samples", path),
                  .images = number_at<std::uint64_t>(json, "images", path)}};
}

// The first entry in which two configurations differ, as "key value" of either; empty where there is none.
inline std::pair<std::string, std::string> first_difference(const Json& found, const Json& expected) {
  const Json a = found.flatten(), b = expected.flatten();
  std::set<std::string> keys;
  for (const Json& json : {a, b})
    for (const auto& [key, value] : json.items()) keys.insert(key);
  for (const std::string& key : keys) {
    const auto shown_at = [&](const Json& json) {
      return key.substr(1) + " " + (json.contains(key) ? json[key].dump() : "left out");
    };
    if (shown_at(a) != shown_at(b)) return {shown_at(a), shown_at(b)};
  }
  return {};
}

// The JSON text under `key` of the metadata, which must be an object.
inline Json metadata_object(const SafeTensors& file, const char* key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end())
    fail(file.path(), message("no ", key, " in its metadata"), "a training state of this library");
  return parse_json_object(found->second, file.path());
}

}  // namespace detail

// Writes the files into `folder`, which exists; see detail::replace_folder for a folder that is never half there.
template <class T>
void write_training_folder(const std::filesystem::path& folder, const T& trainer,
                           const SchedulerConfig& scheduler, const RunRecord& record) {
  save_diffusers(folder, trainer.best_model(), scheduler, {.step = trainer.position().step});
  using Real = Accumulator<typename std::remove_cvref_t<decltype(trainer.model())>::value_type>;
  std::deque<std::vector<Real>> copies;  // of buffers that the host cannot read
  std::vector<TensorToWrite> tensors;
  detail::visit_buffers(
      trainer, trainer.position().batches > 0, [&](const std::string& prefix, const auto& buffer) {
        const Real* data = buffer.data();
        if constexpr (!std::remove_cvref_t<decltype(buffer.device())>::is_host)
          data = copies.emplace_back(buffer.to_host()).data();
        detail::visit_places(trainer.model(),
                             [&](const std::string& name, std::int64_t offset, const Shape& shape) {
                               TensorToWrite tensor{prefix + name, dtype_of<Real>(), {}, data + offset};
                               for (int axis = 0; axis < shape.rank(); ++axis)
                                 tensor.shape.push_back(shape[axis]);
                               tensors.push_back(std::move(tensor));
                             });
      });
  std::map<std::string, std::string> metadata{
      {"position", detail::position_json(trainer.position()).dump()},
      {"configuration", detail::dump_json(record.configuration, -1, folder.string())},
      {"library_version", message(version.major, ".", version.minor, ".", version.patch)}};
  if (record.best_step > 0)
    metadata["best"] = detail::OrderedJson{{"step", record.best_step}, {"loss", record.best_loss}}.dump();
  write_safetensors(folder / training_state_file, tensors, metadata);
}

// Puts the trainer where the folder's run was; `record.configuration` must be that of the folder, the rest of it is
// read. Throws IoError, before anything has changed, where it differs.
template <class T>
void read_training_folder(const std::filesystem::path& folder, T& trainer, RunRecord& record) {
  const SafeTensors file(folder / training_state_file);
  const auto [found, expected] = detail::first_difference(detail::metadata_object(file, "configuration"),
                                                          detail::Json(record.configuration));
  if (found != expected) detail::fail(folder.string(), "a run with " + found, expected);
  const TrainerPosition position =
      detail::parse_position(detail::metadata_object(file, "position"), file.path());
  record = {.configuration = std::move(record.configuration)};
  if (file.metadata().contains("best")) {
    const detail::Json best = detail::metadata_object(file, "best");
    record.best_step = detail::number_at<std::int64_t>(best, "step", file.path());
    record.best_loss = detail::number_at<double>(best, "loss", file.path());
  }
  using M = std::remove_cvref_t<decltype(trainer.model())>;
  using Real = Accumulator<typename M::value_type>;
  M& sampled = trainer.averages().empty() ? trainer.model() : trainer.averages().front().model();
  load_parameters(Weights(find_unet_weights(folder)), sampled);
  detail::visit_buffers(trainer, position.batches > 0, [&](const std::string& prefix, const auto& buffer) {
    detail::visit_places(
        trainer.model(), [&](const std::string& name, std::int64_t offset, const Shape& shape) {
          TensorView<Real, typename M::device_type>(buffer.device(), buffer.data() + offset, {shape.numel()})
              .upload(file.as<Real>(prefix + name));
        });
  });
  trainer.model().parameters().changed();
  for (auto& average : trainer.averages()) average.model().parameters().changed();
  trainer.set_position(position);
}

}  // namespace ddpm::io
