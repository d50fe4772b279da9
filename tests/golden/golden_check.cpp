// SPDX-License-Identifier: MIT
// golden_check DIR... [--device reference|cpu|cpu-exact|cpu-fast] [--limits]: compares the library with every
// fixture under the folders. Exit status: 0 if all are within their limits, 1 if not, 2 for a wrong command
// line.
#include <set>

#include "ops.hpp"
#include "schedulers.hpp"
#include "unet.hpp"

namespace golden {

template <class D>
struct Kind {
  std::string prefix;  // of the file's name; the first that fits is taken
  void (*check)(const Fixture<D>&);
};

template <class D>
const std::vector<Kind<D>>& kinds() {
  static const std::vector<Kind<D>> all = {
      {"conv", check_conv<D>},
      {"gn_", check_group_norm<D>},
      {"linear", check_linear<D>},
      {"silu", check_pointwise<D>},
      {"softmax", check_pointwise<D>},
      {"upsample_nearest", check_pointwise<D>},
      {"attention", check_attention<D>},
      {"resnet", check_resnet<D>},
      {"timestep_mlp", check_timestep_mlp<D>},
      {"timestep_embedding", check_timestep_embedding<D>},
      {"upsample2d", check_resampler<D>},
      {"downsample2d", check_resampler<D>},
      {"schedules", check_schedules<D>},
      {"timesteps", check_timesteps<D>},
      {"ddpm_step", check_steps<D>},
      {"ddim_step", check_steps<D>},
      {"add_noise", check_add_noise<D>},
      {"ddim", check_trajectory<D>},
      {"ddpm", check_trajectory<D>},
      {"io", check_unet<D>},
  };
  return all;
}

// Read together with the io.safetensors beside them.
bool is_companion(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  return (name == "grads.safetensors" || name == "adamw3.safetensors") &&
         std::filesystem::exists(path.parent_path() / "io.safetensors");
}

template <class D>
void check_file(const std::filesystem::path& path, const D& device, const Limits& limits, Report& report) {
  const std::string name = path.stem().string();
  try {
    if (name.starts_with("diffusion_pytorch_model")) return count_parameters(path, device);
    if (is_companion(path)) return;
    for (const Kind<D>& kind : kinds<D>())
      if (name.starts_with(kind.prefix)) return kind.check(Fixture<D>(path, device, limits, report));
    report.failure(path.string(), "a fixture of no known kind");
  } catch (const std::exception& error) {
    report.failure(path.string(), error.what());
  }
}

template <class D>
int check_folders(const std::vector<std::string>& folders, const D& device, const Limits& limits) {
  Report report;
  std::set<std::filesystem::path> files;
  for (const std::string& folder : folders) {
    if (!std::filesystem::is_directory(folder)) {
      report.failure(folder, "is no folder");
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
      if (entry.is_regular_file() && entry.path().extension() == ".safetensors") files.insert(entry.path());
  }
  for (const auto& file : files) check_file(file, device, limits, report);
  std::printf("%d passed, %d failed\n", report.passed(), report.failed());
  return report.failed() == 0 && report.passed() > 0 ? 0 : 1;
}

void print_limits(const char* device, const Limits& l) {
  std::printf("%s: ops %g, off-centre group norm %g, U-Net output and grad_x %g, parameter gradients %g\n",
              device, l.op, l.off_centre_norm, l.unet_output, l.parameter_gradient);
}

int run(const std::vector<std::string>& arguments) {
  std::vector<std::string> folders;
  std::string device = "reference";
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--limits") {
      print_limits("reference", reference_limits);
      print_limits("cpu", cpu_limits);
      const Limits& l = cpu_limits;
      std::printf("both: losses %g, gradient norm %g, to_k.bias %g of the largest gradient of to_q.bias\n",
                  l.loss, l.gradient_norm, l.zero_gradient);
      std::printf("AdamW, absolute: median %g, 99.9 %% %g, max %g, max of to_k.bias %g\n", l.adamw_median,
                  l.adamw_most, l.adamw_max, l.adamw_max_zero_gradient);
      std::printf(
          "schedules: _f64 %g, float32 %g; steps: t >= 100 %g, t >= 20 %g, t > 0 %g, t = 0 %g; trajectories "
          "%g "
          "absolute\n",
          l.schedule_f64, l.schedule_f32, Limits::step(100), Limits::step(20), Limits::step(1),
          Limits::step(0), l.trajectory);
    } else if (arguments[i] == "--device" && i + 1 < arguments.size()) {
      device = arguments[++i];
    } else if (arguments[i].starts_with("--")) {
      std::fprintf(stderr, "golden_check: found %s, expected DIR... [--device DEVICE] [--limits]\n",
                   arguments[i].c_str());
      return 2;
    } else {
      folders.push_back(arguments[i]);
    }
  }
  if (folders.empty()) return arguments.empty() ? 2 : 0;
  if (device == "reference") return check_folders(folders, ddpm::Reference{}, reference_limits);
  using Convolution = ddpm::Cpu::Convolution;
  if (device == "cpu") return check_folders(folders, ddpm::Cpu{}, cpu_limits);
  if (device == "cpu-exact")
    return check_folders(folders, ddpm::Cpu{Convolution::exact}, cpu_limits);
  if (device == "cpu-fast")
    return check_folders(folders, ddpm::Cpu{Convolution::fast}, cpu_limits);
  std::fprintf(stderr, "golden_check: found --device %s, expected reference, cpu, cpu-exact or cpu-fast\n",
               device.c_str());
  return 2;
}

}  // namespace golden

int main(int argc, char** argv) { return golden::run({argv + 1, argv + argc}); }
