// SPDX-License-Identifier: MIT
// SchedulerConfig from and to the scheduler_config.json of a diffusers DDPMScheduler, DDIMScheduler or
// DPMSolverMultistepScheduler; what this library cannot sample is refused.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <ddpm/io/detail/config_reader.hpp>
#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/detail/json.hpp>
#include <ddpm/io/diffusers_config.hpp>

namespace ddpm::io {

// A default-constructed value is DDPMScheduler() with every argument left out. Strings are those of
// diffusers.
struct SchedulerConfig {
  std::string class_name = "DDPMScheduler";  // or "DDIMScheduler" or "DPMSolverMultistepScheduler"
  int num_train_timesteps = 1000;
  double beta_start = 1e-4;
  double beta_end = 0.02;
  std::string beta_schedule = "linear";
  std::vector<double> trained_betas = {};     // takes the place of the schedule unless empty
  std::string variance_type = "fixed_small";  // DDPMScheduler only
  bool clip_sample = true;                    // not DPMSolverMultistepScheduler
  double clip_sample_range = 1;
  std::string prediction_type = "epsilon";
  bool thresholding = false;  // takes the place of clipping
  double dynamic_thresholding_ratio = 0.995;
  double sample_max_value = 1;
  std::string timestep_spacing = "leading";
  int steps_offset = 0;
  bool set_alpha_to_one =
      true;  // DDIMScheduler; for DPMSolverMultistepScheduler, final_sigmas_type is "zero"
  bool rescale_betas_zero_snr = false;

  bool is_ddpm() const { return class_name == "DDPMScheduler"; }
  bool is_ddim() const { return class_name == "DDIMScheduler"; }
  bool is_dpm() const { return class_name == "DPMSolverMultistepScheduler"; }

  friend bool operator==(const SchedulerConfig&, const SchedulerConfig&) = default;
};

namespace detail {

inline bool is_beta(double value) { return value > 0 && value <= 1; }

inline void read_betas(ConfigReader& reader, SchedulerConfig& config) {
  constexpr std::string_view expected = "a number above 0 and at most 1";
  config.num_train_timesteps = reader.integer("num_train_timesteps", config.num_train_timesteps, 1);
  config.beta_start = reader.number("beta_start", config.beta_start, is_beta, expected);
  config.beta_end = reader.number("beta_end", config.beta_end, is_beta, expected);
  config.beta_schedule =
      config.is_ddpm()
          ? reader.choice("beta_schedule", {"linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"})
          : reader.choice("beta_schedule", {"linear", "scaled_linear", "squaredcos_cap_v2"});
  const Json* betas = reader.find("trained_betas");
  if (betas != nullptr && !betas->is_null()) {
    if (!betas->is_array() || betas->size() != static_cast<std::size_t>(config.num_train_timesteps))
      reader.refuse("trained_betas", *betas, message("null or ", config.num_train_timesteps, " numbers"));
    for (const Json& beta : *betas) {
      if (!beta.is_number() || !is_beta(beta.get<double>())) reader.refuse("trained_betas", beta, expected);
      config.trained_betas.push_back(beta.get<double>());
    }
  }
  config.rescale_betas_zero_snr = reader.boolean("rescale_betas_zero_snr", config.rescale_betas_zero_snr);
}

// prediction_type, or the predict_epsilon of configurations older than diffusers 0.10.
inline std::string read_prediction_type(ConfigReader& reader) {
  const bool predicts_epsilon = reader.boolean("predict_epsilon", true);
  if (reader.find("prediction_type") == nullptr && !predicts_epsilon) return "sample";
  return reader.choice("prediction_type", {"epsilon", "sample", "v_prediction"});
}

// Of the multistep solver only the first order is a step of DDIM, and only with trailing spacing does it
// visit the time steps that DDIM does.
inline void read_dpm_solver(ConfigReader& reader, SchedulerConfig& config) {
  const auto expect = [&](const char* key, const Json& absent, const Json& supported) {
    const Json* value = reader.find(key);
    const Json& found = value == nullptr ? absent : *value;
    if (found != supported) reader.refuse(key, found, shown(supported));
  };
  expect("solver_order", 2, 1);
  expect("timestep_spacing", "linspace", "trailing");
  expect("algorithm_type", "dpmsolver++", "dpmsolver++");
  expect("lambda_min_clipped", "-Infinity", "-Infinity");
  for (const char* key : {"use_karras_sigmas", "use_lu_lambdas", "use_exponential_sigmas", "use_beta_sigmas",
                          "use_flow_sigmas"})
    expect(key, false, false);
  const Json* variance = reader.find("variance_type");
  if (variance != nullptr && (*variance == "learned" || *variance == "learned_range"))
    reader.refuse("variance_type", *variance, "null");
  config.set_alpha_to_one = reader.choice("final_sigmas_type", {"zero", "sigma_min"}) == "zero";
  config.clip_sample = false;
}

// Keys of other classes, which diffusers carries along when one scheduler is made from another, and ignores.
inline void pass_over_foreign_keys(ConfigReader& reader) {
  for (const char* key :
       {"algorithm_type",         "clip_sample",      "clip_sample_range",  "euler_at_final",
        "final_sigmas_type",      "flow_shift",       "interpolation_type", "lambda_min_clipped",
        "lower_order_final",      "set_alpha_to_one", "sigma_max",          "sigma_min",
        "skip_prk_steps",         "solver_order",     "solver_type",        "tensor_format",
        "time_shift_type",        "timestep_type",    "use_beta_sigmas",    "use_dynamic_shifting",
        "use_exponential_sigmas", "use_flow_sigmas",  "use_karras_sigmas",  "use_lu_lambdas",
        "variance_type"})
    reader.find(key);
}

inline void read_sampling(ConfigReader& reader, SchedulerConfig& config) {
  const auto is_positive = [](double v) { return v > 0; };
  if (config.is_ddpm())  // diffusers takes the root of a logarithm for fixed_large_log
    config.variance_type = reader.choice("variance_type", {"fixed_small", "fixed_small_log", "fixed_large"});
  if (config.is_ddim()) config.set_alpha_to_one = reader.boolean("set_alpha_to_one", config.set_alpha_to_one);
  if (config.is_dpm()) {
    read_dpm_solver(reader, config);
  } else {
    config.clip_sample = reader.boolean("clip_sample", config.clip_sample);
    config.clip_sample_range =
        reader.number("clip_sample_range", config.clip_sample_range, is_positive, "a positive number");
  }
  config.prediction_type = read_prediction_type(reader);
  config.thresholding = reader.boolean("thresholding", config.thresholding);
  config.dynamic_thresholding_ratio =
      reader.number("dynamic_thresholding_ratio", config.dynamic_thresholding_ratio, is_beta,
                    "a number above 0 and at most 1");
  config.sample_max_value =
      reader.number("sample_max_value", config.sample_max_value, is_positive, "a positive number");
  config.timestep_spacing = reader.choice("timestep_spacing", {"leading", "linspace", "trailing"});
  config.steps_offset = reader.integer("steps_offset", 0, 0, config.num_train_timesteps - 1);
}

}  // namespace detail

// Throws a ConfigError that names the key, its value and what is supported, or an IoError where the text is
// no JSON object.
inline SchedulerConfig parse_scheduler_config(std::string_view json,
                                              const std::string& where = "scheduler_config.json") {
  detail::ConfigReader reader(detail::with_quoted_constants(json), where);
  SchedulerConfig config;
  config.class_name =
      reader.choice("_class_name", {"DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler"});
  detail::read_betas(reader, config);
  detail::read_sampling(reader, config);
  detail::pass_over_foreign_keys(reader);
  reader.refuse_unknown_keys();
  return config;
}

inline SchedulerConfig read_scheduler_config(const std::filesystem::path& path) {
  return parse_scheduler_config(detail::read_text(path.string(), detail::longest_config), path.string());
}

// All keys of the class, in the order in which diffusers writes them. Refuses what it would not read.
inline std::string scheduler_config_json(const SchedulerConfig& config) {
  using Json = detail::OrderedJson;
  Json json;
  json["_class_name"] = config.class_name;
  json["_diffusers_version"] = diffusers_version;
  json["num_train_timesteps"] = config.num_train_timesteps;
  json["beta_start"] = config.beta_start;
  json["beta_end"] = config.beta_end;
  json["beta_schedule"] = config.beta_schedule;
  json["trained_betas"] = config.trained_betas.empty() ? Json(nullptr) : Json(config.trained_betas);
  if (config.is_ddpm()) json["variance_type"] = config.variance_type;
  if (!config.is_dpm()) json["clip_sample"] = config.clip_sample;
  if (config.is_ddim()) json["set_alpha_to_one"] = config.set_alpha_to_one;
  if (config.is_dpm()) json["solver_order"] = 1;
  if (config.is_ddim()) json["steps_offset"] = config.steps_offset;
  json["prediction_type"] = config.prediction_type;
  json["thresholding"] = config.thresholding;
  json["dynamic_thresholding_ratio"] = config.dynamic_thresholding_ratio;
  if (!config.is_dpm()) json["clip_sample_range"] = config.clip_sample_range;
  json["sample_max_value"] = config.sample_max_value;
  if (config.is_dpm()) json["algorithm_type"] = "dpmsolver++";
  if (config.is_dpm()) json["final_sigmas_type"] = config.set_alpha_to_one ? "zero" : "sigma_min";
  json["timestep_spacing"] = config.timestep_spacing;
  if (!config.is_ddim()) json["steps_offset"] = config.steps_offset;
  if (!config.is_dpm()) json["rescale_betas_zero_snr"] = config.rescale_betas_zero_snr;
  std::string text = detail::dump_json(json, 2, "scheduler_config.json") + "\n";
  static_cast<void>(parse_scheduler_config(text));
  return text;
}

inline void write_scheduler_config(const std::filesystem::path& path, const SchedulerConfig& config) {
  detail::write_file(path.string(), scheduler_config_json(config));
}

}  // namespace ddpm::io
