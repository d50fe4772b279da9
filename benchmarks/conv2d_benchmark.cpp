// SPDX-License-Identifier: MIT
// Convolution on the host: GFLOP/s (counted as direct convolution) of every pass, and their share of what the
// innermost matrix product reaches on operands in the first cache, measured in the same run.
//
//   DDPM_THREADS=2 ./conv2d_benchmark --benchmark_filter='28x28'
#include <benchmark/benchmark.h>

#include <ddpm/ops/cost.hpp>
#include <ddpm/ops/cpu/conv2d.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace ddpm;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// GFLOP/s of all threads on the register tile alone: 96 rows of 256 terms by one panel, per thread.
double measure_peak() {
  constexpr int rows = 96, depth = 256, repetitions = 200;
  const int panel = detail::cpu::panel_width(), threads = ThreadPool::instance().threads();
  const auto room = std::int64_t{rows + detail::cpu::row_table_unit};
  static const auto a = Tensor<float, Cpu>::zeros(Cpu{}, {room, depth});
  static const auto b = Tensor<float, Cpu>::zeros(Cpu{}, {depth, 32});
  const Tensor<float, Cpu> y(Cpu{}, {threads, room, panel});
  const auto start = Clock::now();
  parallel_for(threads, [&](std::int64_t thread) {
    float* to = y.data() + thread * room * panel;
    for (int i = 0; i < repetitions; ++i)
      detail::cpu::panel_product({a.data(), depth, rows, depth, b.data(), to}, panel);
  });
  return 2e-9 * threads * repetitions * rows * depth * panel / seconds_since(start);
}

struct Layer {
  std::string name;
  int n, h, c, c2, cout, kernel, stride, upsample;

  Conv2dGeometry geometry() const {
    const Conv2dOptions options{stride, kernel / 2, kernel / 2, upsample};
    const int p = detail::conv2d_extent(h, kernel, options);
    return {n, h, h, c, c2, cout, kernel, stride, kernel / 2, kernel / 2, upsample, p, p};
  }
};

enum class Pass { forward, backward_data, backward_weight };

// The tensors of a layer, filled with small numbers (a zero image would be faster on some machines).
struct Problem {
  Conv2dGeometry g;
  Cpu device;
  Tensor<float, Cpu> x, x2, weight, dy, dx, dx2, dweight, forward, backward;

  Problem(const Conv2dGeometry& shape, const Cpu& on)
      : g(shape),
        device(on),
        x(filled({g.n, g.h, g.w, g.c})),
        x2(filled({g.n, g.h, g.w, g.c2})),
        weight(filled({g.cout, g.kernel, g.kernel, g.channels()})),
        dy(filled({g.n, g.p, g.q, g.cout})),
        dx(filled(x.shape())),
        dx2(filled(x2.shape())),
        dweight(filled(weight.shape())),
        forward(prepared(Conv2dPass::forward)),
        backward(prepared(Conv2dPass::backward_data)) {}

  // f of the parameters of the pass.
  template <class F>
  auto apply(Pass pass, F f) const {
    if (pass == Pass::forward)
      return f(Conv2dForward<float>{g, x.data(), x2.data(), weight.data(), forward.data(), nullptr, nullptr,
                                    nullptr, 1.0f, dy.data()});
    if (pass == Pass::backward_data)
      return f(
          Conv2dBackwardData<float>{g, dy.data(), weight.data(), backward.data(), dx.data(), dx2.data()});
    return f(Conv2dBackwardWeight<float>{g, x.data(), x2.data(), dy.data(), dweight.data()});
  }
  void run(Pass pass) const {
    apply(pass, [&](const auto& params) { launch(device, params); });
  }

 private:
  static Tensor<float, Cpu> filled(const Shape& shape) {
    Tensor<float, Cpu> tensor(Cpu{}, shape);
    for (std::int64_t i = 0; i < tensor.numel(); ++i) tensor.data()[i] = static_cast<float>(i % 17 - 8) / 8;
    return tensor;
  }
  Tensor<float, Cpu> prepared(Conv2dPass pass) const {
    Tensor<float, Cpu> to(device, {conv2d_prepared_size<float>(device, g, pass)});
    launch(device, Conv2dPrepare<float>{g, pass, weight.data(), to.data()});
    return to;
  }
};

void run_benchmark(benchmark::State& state, const Layer& layer, Pass pass, Cpu::Convolution convolution) {
  Cpu device;
  device.convolution = convolution;
  const Problem problem(layer.geometry(), device);
  const Cost least = problem.apply(pass, [](const auto& params) { return cost(params); });
  const double gigaflop = 1e-9 * static_cast<double>(least.flops);
  double peak = 0;
  for (int i = 0; i < 5; ++i) peak = std::max(peak, measure_peak());
  problem.run(pass);  // takes the memory
  std::vector<double> times;
  for (auto _ : state) {
    const auto start = Clock::now();
    problem.run(pass);
    times.push_back(seconds_since(start));
    state.SetIterationTime(times.back());
  }
  std::sort(times.begin(), times.end());
  state.counters["best_GFLOP/s"] = gigaflop / times.front();
  state.counters["median_GFLOP/s"] = gigaflop / times[times.size() / 2];
  state.counters["best_of_peak_%"] = 100 * gigaflop / times.front() / peak;
  state.counters["peak_GFLOP/s"] = peak;
}

const Layer layers[] = {
    {"28x28_32", 32, 28, 32, 0, 32, 3, 1, 1},         {"28x28_64", 32, 28, 64, 0, 64, 3, 1, 1},
    {"28x28_64+64", 32, 28, 64, 64, 64, 3, 1, 1},     {"14x14_64", 32, 14, 64, 0, 64, 3, 1, 1},
    {"14x14_128", 32, 14, 128, 0, 128, 3, 1, 1},      {"7x7_128", 32, 7, 128, 0, 128, 3, 1, 1},
    {"28x28_32_down", 32, 28, 32, 0, 32, 3, 2, 1},    {"14x14_64_down", 32, 14, 64, 0, 64, 3, 2, 1},
    {"14x14_64_up", 32, 14, 64, 0, 64, 3, 1, 2},      {"28x28_64_1x1", 32, 28, 64, 0, 32, 1, 1, 1},
    {"28x28_64+64_1x1", 32, 28, 64, 64, 64, 1, 1, 1}, {"28x28_in", 32, 28, 1, 0, 32, 3, 1, 1},
    {"28x28_out", 32, 28, 32, 0, 1, 3, 1, 1},         {"32x32_128", 16, 32, 128, 0, 128, 3, 1, 1},
    {"16x16_256", 16, 16, 256, 0, 256, 3, 1, 1},      {"8x8_256", 16, 8, 256, 0, 256, 3, 1, 1},
    {"4x4_256", 16, 4, 256, 0, 256, 3, 1, 1},         {"28x28_64_one", 1, 28, 64, 0, 64, 3, 1, 1},
    {"4x4_256_one", 1, 4, 256, 0, 256, 3, 1, 1},
};

}  // namespace

int main(int argc, char** argv) {
  const std::pair<const char*, Pass> passes[] = {{"forward", Pass::forward},
                                                 {"backward_data", Pass::backward_data},
                                                 {"backward_weight", Pass::backward_weight}};
  const std::pair<const char*, Cpu::Convolution> modes[] = {{"exact", Cpu::Convolution::exact},
                                                            {"automatic", Cpu::Convolution::automatic},
                                                            {"fast", Cpu::Convolution::fast}};
  for (const Layer& layer : layers)
    for (const auto& [pass_name, pass] : passes)
      for (const auto& [mode_name, mode] : modes)
        benchmark::RegisterBenchmark((layer.name + "/" + pass_name + "/" + mode_name).c_str(), run_benchmark,
                                     layer, pass, mode)
            ->UseManualTime()
            ->Unit(benchmark::kMillisecond);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
