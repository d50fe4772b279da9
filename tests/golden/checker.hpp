// SPDX-License-Identifier: MIT
// What every kind of fixture needs: limits, the report line, tensors in and out of torch's memory order.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <ddpm/ddpm.hpp>
#include <ddpm/io.hpp>

namespace golden {

using ddpm::Shape;
using ddpm::io::SafeTensors;

// The largest errors allowed, max|a - b| / max|b| unless said otherwise.
struct Limits {
  double op, off_centre_norm;  // off centre: a group norm whose input mean exceeds 4 standard deviations
  double unet_output, input_gradient, parameter_gradient;
  double loss = 1e-6;
  double gradient_norm = 3e-6;
  double zero_gradient = 1e-5;  // of to_k.bias, relative to the largest gradient of to_q.bias
  double adamw_median = 5e-8, adamw_most = 5e-6, adamw_max = 1e-3,
         adamw_max_zero_gradient = 3e-3;  // absolute
  double schedule_f64 = 1e-12, schedule_f32 = 2e-5;
  double rounded_angle = 1e-4;  // of an embedding whose angle was rounded to float, against the exact one
  double trajectory = 1e-4;     // absolute, at every step

  // Of a single reverse step: the fixtures' float32 coefficients cancel near t = 0, double tables do not.
  static double step(int t) { return t >= 100 ? 5e-6 : t >= 20 ? 1e-4 : t > 0 ? 1e-3 : 2e-5; }
};

inline constexpr Limits reference_limits{.op = 2e-6,
                                         .off_centre_norm = 1e-5,
                                         .unet_output = 5e-6,
                                         .input_gradient = 5e-6,
                                         .parameter_gradient = 1e-5};
inline constexpr Limits cpu_limits{.op = 1e-5,
                                   .off_centre_norm = 2e-5,
                                   .unet_output = 1e-5,
                                   .input_gradient = 1e-5,
                                   .parameter_gradient = 3e-5};
// Of Cpu::Convolution::fast, whose products may err by 3e-5 where the others' do by 1e-5: three times as much of all that
// they go into.
inline constexpr Limits fast_limits = [] {
  Limits l = cpu_limits;
  for (double* limit : {&l.op, &l.unet_output, &l.input_gradient, &l.parameter_gradient, &l.loss,
                        &l.gradient_norm, &l.zero_gradient, &l.adamw_median, &l.adamw_most, &l.trajectory})
    *limit *= 3;
  return l;
}();
// U-Nets of bf16 with float master weights. A gradient has been rounded by twice as many layers as the output.
inline constexpr Limits bf16_limits{.op = 0,
                                    .off_centre_norm = 0,
                                    .unet_output = 0.02,
                                    .input_gradient = 0.04,
                                    .parameter_gradient = 0.1,
                                    .loss = 2e-3,
                                    .gradient_norm = 1e-2,
                                    .zero_gradient = 1e-2};

inline double largest(std::span<const double> values) {
  double most = 0;
  for (const double value : values) most = std::isnan(value) ? value : std::max(most, std::abs(value));
  return most;
}

// max|a - b|; NaN where either holds one.
inline double largest_difference(std::span<const double> a, std::span<const double> b) {
  ddpm::check(a.size() == b.size(), "golden_check: ", a.size(), " values compared with ", b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]);
    if (std::isnan(difference)) return difference;
    most = std::max(most, difference);
  }
  return most;
}

inline double relative_error(std::span<const double> a, std::span<const double> b) {
  const double scale = largest(b);
  return largest_difference(a, b) / (scale > 0 ? scale : 1);
}

class Report {
 public:
  void line(const std::string& file, const std::string& name, double error, double limit) {
    const bool passes = error <= limit;  // false for NaN
    std::printf("%s  %s  error %.3e  limit %.3e  %s\n", file.c_str(), name.c_str(), error, limit,
                passes ? "PASS" : "FAIL");
    ++(passes ? passed_ : failed_);
  }
  void failure(const std::string& file, const std::string& why) {
    std::printf("%s  %s  FAIL\n", file.c_str(), why.c_str());
    ++failed_;
  }
  int passed() const { return passed_; }
  int failed() const { return failed_; }

 private:
  int passed_ = 0, failed_ = 0;
};

// One fixture file on one device.
template <class D>
class Fixture {
 public:
  Fixture(const std::filesystem::path& path, const D& device, const Limits& limits, Report& report)
      : file_(path), path_(path), device_(device), limits_(limits), report_(report) {}

  const SafeTensors& file() const { return file_; }
  const std::filesystem::path& path() const { return path_; }
  const D& device() const { return device_; }
  const Limits& limits() const { return limits_; }
  Report& report() const { return report_; }

  bool has(const std::string& name) const { return file_.contains(name); }
  std::vector<double> values(const std::string& name) const { return file_.template as<double>(name); }

  std::string meta(const std::string& key, const std::string& otherwise) const {
    const auto found = file_.metadata().find(key);
    return found == file_.metadata().end() ? otherwise : found->second;
  }
  double number(const std::string& key, double otherwise) const {
    const std::string text = meta(key, "");
    return text.empty() ? otherwise : std::stod(text);
  }

  // The shape that a stored tensor has here: N C H W becomes N H W C, O I K K becomes O K K I.
  Shape shape(const std::string& name) const {
    const auto& s = file_.tensor(name).shape;
    switch (s.size()) {
      case 1:
        return {s[0]};
      case 2:
        return {s[0], s[1]};
      case 4:
        return {s[0], s[2], s[3], s[1]};
      default:
        throw ddpm::IoError(
            ddpm::message(path_.string(), ": found ", name, " of rank ", s.size(), ", expected 1, 2 or 4"));
    }
  }

  template <class T = float>
  ddpm::Tensor<T, D> tensor(const std::string& name) const {
    const auto values = ddpm::io::detail::reorder(file_.template as<float>(name), shape(name),
                                                  ddpm::io::detail::Direction::from_torch);
    return {device_, shape(name), std::vector<T>(values.begin(), values.end())};
  }

  ddpm::Tensor<std::int32_t, D> integers(const std::string& name) const {
    const auto stored = file_.template as<std::int64_t>(name);
    const std::vector<std::int32_t> values(stored.begin(), stored.end());
    return {device_, {static_cast<std::int64_t>(values.size())}, values};
  }

  template <class View>
  static std::vector<double> torch_order(const View& view) {
    const auto values =
        ddpm::io::detail::reorder(view.to_host(), view.shape(), ddpm::io::detail::Direction::to_torch);
    return {values.begin(), values.end()};
  }

  void line(const std::string& name, double error, double limit) const {
    report_.line(path_.string(), name, error, limit);
  }

  template <class View>
  void compare(const std::string& name, const View& ours, double limit) const {
    line(name, relative_error(torch_order(ours), values(name)), limit);
  }

  // Fills every parameter of a layer from the tensors named prefix + its name.
  template <class Layer>
  void load(const Layer& layer, const std::string& prefix = "") const {
    layer.visit(prefix, [&](const std::string& name, const auto& parameter) {
      ddpm::check(shape(name) == parameter.shape(), path_.string(), ": found ", name, " ", shape(name),
                  ", expected ", parameter.shape());
      parameter.value().copy_from(tensor(name));
      parameter.changed();
    });
  }

  // Compares the gradient of every parameter with the stored tensor named before + name.
  template <class Layer>
  void compare_gradients(const Layer& layer, const std::string& prefix, const std::string& before,
                         double limit) const {
    double query_scale = 0;  // to_q is visited before to_k
    layer.visit(prefix, [&](const std::string& name, const auto& parameter) {
      const auto ours = torch_order(parameter.gradient());
      const auto theirs = values(before + name);
      if (name.ends_with("to_q.bias")) query_scale = largest(theirs);
      if (name.ends_with("to_k.bias"))
        line(before + name, largest_difference(ours, theirs) / query_scale, limits_.zero_gradient);
      else
        line(before + name, relative_error(ours, theirs), limit);
    });
  }

 private:
  SafeTensors file_;
  std::filesystem::path path_;
  D device_;
  const Limits& limits_;
  Report& report_;
};

}  // namespace golden
