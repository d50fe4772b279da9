// SPDX-License-Identifier: MIT
// MetricsLog: the numbers of a run, as lines of JSON, as TensorBoard events, and as curves.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <ddpm/io/detail/append_file.hpp>
#include <ddpm/io/detail/json.hpp>
#include <ddpm/io/detail/replace_folder.hpp>
#include <ddpm/io/plot.hpp>
#include <ddpm/io/tensorboard.hpp>

namespace ddpm::io {

// metrics.jsonl has one object a line, {"step": 50, "loss": 0.1, ...}; tensorboard/ the same numbers by name.
class MetricsLog {
 public:
  struct Curve {
    std::vector<double> steps, values;
  };

  // Continues the log of `folder` after `last_step`: lines of later steps, and a line that was cut, are dropped. 0: a new
  // log.
  MetricsLog(const std::filesystem::path& folder, std::int64_t last_step) : folder_(folder) {
    detail::make_folder(folder / "tensorboard");
    rewind(last_step);
  }

  // Forgets all of later steps.
  void rewind(std::int64_t last_step) {
    const std::string path = (folder_ / "metrics.jsonl").string();
    constexpr std::size_t longest = std::size_t{1} << 32;
    std::istringstream old(std::filesystem::exists(path) ? detail::read_text(path, longest) : "");
    std::string kept;
    curves_.clear();
    for (std::string line; std::getline(old, line);) {
      const detail::Json json = detail::Json::parse(line, nullptr, false);
      if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer() ||
          json["step"] > last_step)
        continue;
      for (const auto& [name, value] : json.items())
        if (name != "step" && value.is_number()) add(name, json["step"], value);
      kept += line + '\n';
    }
    detail::write_file(path, kept);
    lines_.emplace(path);
    events_.emplace(folder_ / "tensorboard", last_step + 1);
  }

  void write(std::int64_t step, const std::vector<std::pair<std::string, double>>& values) {
    detail::OrderedJson json{{"step", step}};
    for (const auto& [name, value] : values) {
      json[name] = value;
      add(name, static_cast<double>(step), value);
      events_->scalar(name, step, value);
    }
    lines_->write(json.dump() + '\n');
  }

  void write(std::int64_t step, const std::string& name, const Image& image) {
    events_->image(name, step, image);
  }

  // Of a name, with no points where it was never written.
  const Curve& curve(const std::string& name) { return curves_[name]; }

  // NAME.png, where there are two points or more; its path.
  std::optional<std::filesystem::path> plot(const std::string& name, LinePlotOptions options) {
    const Curve& points = curve(name);
    if (points.steps.size() < 2) return std::nullopt;
    options.x_label = "step";
    const std::filesystem::path path = folder_ / (name + ".png");
    write_line_plot(path, points.steps, points.values, options);
    return path;
  }

 private:
  void add(const std::string& name, double step, double value) {
    curves_[name].steps.push_back(step);
    curves_[name].values.push_back(value);
  }

  std::filesystem::path folder_;
  std::map<std::string, Curve> curves_;
  std::optional<detail::AppendFile> lines_;
  std::optional<EventWriter> events_;
};

}  // namespace ddpm::io
