// SPDX-License-Identifier: MIT
// golden_check DIR... [--device reference|cpu|cpu-exact|cpu-fast|sim] [--limits]: compares the library with
// every fixture under the folders. Exit status: 0 if all are within their limits, 1 if not, 2 for a wrong
// command line.
#include "check_folders.hpp"
#include "golden_sim.hpp"

namespace golden {

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
  if (device == "sim") return check_folders_on_sim(folders);
  std::fprintf(stderr,
               "golden_check: found --device %s, expected reference, cpu, cpu-exact, cpu-fast or sim\n",
               device.c_str());
  return 2;
}

}  // namespace golden

int main(int argc, char** argv) { return golden::run({argv + 1, argv + argc}); }
