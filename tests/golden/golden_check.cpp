// SPDX-License-Identifier: MIT
// golden_check DIR... [--device reference|cpu|cpu-exact|cpu-fast|sim] [--dtype float|bf16] [--limits]: compares the
// library with every fixture under the folders, in bf16 with those of U-Nets. Exit status: 0 if all are within their
// limits, 1 if not, 2 for a wrong command line.
#include "check_folders.hpp"
#include "golden_sim.hpp"

namespace golden {

void print_limits(const char* device, const Limits& l) {
  std::printf("%s: ops %g, off-centre group norm %g, U-Net output %g, grad_x %g, parameter gradients %g\n",
              device, l.op, l.off_centre_norm, l.unet_output, l.input_gradient, l.parameter_gradient);
}

void print_all_limits() {
  print_limits("reference", reference_limits);
  print_limits("cpu", cpu_limits);
  print_limits("cpu-fast", fast_limits);
  print_limits("bf16", bf16_limits);
  const Limits& l = cpu_limits;
  std::printf("both: losses %g, gradient norm %g, to_k.bias %g of the largest gradient of to_q.bias\n",
              l.loss, l.gradient_norm, l.zero_gradient);
  std::printf("AdamW, absolute: median %g, 99.9 %% %g, max %g, max of to_k.bias %g\n", l.adamw_median,
              l.adamw_most, l.adamw_max, l.adamw_max_zero_gradient);
  std::printf(
      "schedules: _f64 %g, float32 %g; steps: t >= 100 %g, t >= 20 %g, t > 0 %g, t = 0 %g; trajectories %g "
      "absolute\n",
      l.schedule_f64, l.schedule_f32, Limits::step(100), Limits::step(20), Limits::step(1), Limits::step(0),
      l.trajectory);
}

struct Request {
  std::vector<std::string> folders;
  std::string device = "reference", dtype = "float";
};

template <class T>
int check(const Request& request) {
  using ddpm::Cpu;
  const Limits& limits = std::is_same_v<T, float> ? cpu_limits : bf16_limits;
  const auto on = [&](const auto& device, const Limits& l) {
    return check_folders<T>(request.folders, device, l);
  };
  if (request.device == "reference")
    return on(ddpm::Reference{}, std::is_same_v<T, float> ? reference_limits : limits);
  if (request.device == "cpu") return on(Cpu{}, limits);
  if (request.device == "cpu-exact") return on(Cpu{Cpu::Convolution::exact}, limits);
  if (request.device == "cpu-fast")
    return on(Cpu{Cpu::Convolution::fast}, std::is_same_v<T, float> ? fast_limits : limits);
  if (request.device == "sim") return check_folders_on_sim<T>(request.folders, limits);
  std::fprintf(stderr,
               "golden_check: found --device %s, expected reference, cpu, cpu-exact, cpu-fast or sim\n",
               request.device.c_str());
  return 2;
}

int run(const std::vector<std::string>& arguments) {
  Request request;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const bool has_value = i + 1 < arguments.size();
    if (arguments[i] == "--limits") {
      print_all_limits();
    } else if (arguments[i] == "--device" && has_value) {
      request.device = arguments[++i];
    } else if (arguments[i] == "--dtype" && has_value) {
      request.dtype = arguments[++i];
    } else if (arguments[i].starts_with("--")) {
      std::fprintf(stderr,
                   "golden_check: found %s, expected DIR... [--device DEVICE] [--dtype TYPE] [--limits]\n",
                   arguments[i].c_str());
      return 2;
    } else {
      request.folders.push_back(arguments[i]);
    }
  }
  if (request.folders.empty()) return arguments.empty() ? 2 : 0;
  if (request.dtype == "float") return check<float>(request);
  if (request.dtype == "bf16") return check<ddpm::bf16>(request);
  std::fprintf(stderr, "golden_check: found --dtype %s, expected float or bf16\n", request.dtype.c_str());
  return 2;
}

}  // namespace golden

int main(int argc, char** argv) { return golden::run({argv + 1, argv + argc}); }
