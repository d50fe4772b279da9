// SPDX-License-Identifier: MIT
// The main program of a file of benchmarks.
//
//   PROGRAM                   milliseconds, GFLOP/s and GB/s of every case, and their shares of what the innermost
//                             matrix product and a copy reach in the same run; Google Benchmark's options work
//   PROGRAM --serve NAME      one case, timed on request by peers/compare.py: a line with a number of seconds is
//                             answered by one with the median seconds of a call over as long
#pragma once

#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/core/parallel.hpp>
#include <ddpm/core/tensor.hpp>
#include <ddpm/ops/cost.hpp>
#include <ddpm/ops/cpu/gemm.hpp>

namespace ddpm::benchmarks {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Call {
  std::function<void()> run;
  Cost cost;
};

struct Case {
  std::string name;
  std::function<Call()> prepare;  // takes the memory, which goes with the call
};

// The batches that compare.py knows; the last by option.
constexpr int batches[] = {1, 4, 16, 128};

// Small numbers (a zero image would be faster on some machines).
inline Tensor<float, Cpu> filled(const Shape& shape, const Cpu& device = {}) {
  Tensor<float, Cpu> tensor(device, shape);
  for (std::int64_t i = 0; i < tensor.numel(); ++i) tensor.data()[i] = static_cast<float>(i % 17 - 8) / 8;
  return tensor;
}

// A call of the op with parameters that borrow from `memory`, which it keeps.
template <class Memory, class Params>
Call call_of(const Cpu& device, const std::shared_ptr<Memory>& memory, const Params& params) {
  return {[device, memory, params] { launch(device, params); }, cost(params)};
}

// GFLOP/s of all threads on the register tile alone: 96 rows of 256 terms by one panel, per thread.
inline double arithmetic_peak() {
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

// GB/s, read and written, of a copy that no cache holds.
inline double copy_peak() {
  constexpr std::int64_t count = 32 << 20;
  static const Tensor<float, Cpu> from = filled({count}), to = filled({count});
  const auto start = Clock::now();
  parallel_ranges(count, 1 << 18, [](std::int64_t first, std::int64_t last) {
    std::memcpy(to.data() + first, from.data() + first,
                static_cast<std::size_t>(last - first) * sizeof(float));
  });
  return 2e-9 * static_cast<double>(count * std::int64_t{sizeof(float)}) / seconds_since(start);
}

inline double best_of(double (*measure)()) {
  double best = 0;
  for (int i = 0; i < 5; ++i) best = std::max(best, measure());
  return best;
}

inline double time(const Call& call) {
  const auto start = Clock::now();
  call.run();
  return seconds_since(start);
}

// The first call takes scratch memory, the third makes the copies of weights that are read again.
inline void warm_up(const Call& call) {
  for (int i = 0; i < 3; ++i) call.run();
}

inline void run_benchmark(benchmark::State& state, const Case& item) {
  const double gigaflops = best_of(arithmetic_peak), gigabytes = best_of(copy_peak);
  const Call call = item.prepare();
  warm_up(call);
  std::vector<double> times;
  for (auto _ : state) {
    times.push_back(time(call));
    state.SetIterationTime(times.back());
  }
  std::sort(times.begin(), times.end());
  state.counters["best_ms"] = 1e3 * times.front();
  state.counters["median_ms"] = 1e3 * times[times.size() / 2];
  const auto rate = [&](const char* unit, std::int64_t amount, double peak) {
    if (amount == 0) return;
    const double best = 1e-9 * static_cast<double>(amount) / times.front();
    state.counters[unit] = best;
    state.counters[std::string(unit) + "_of_peak_%"] = 100 * best / peak;
  };
  rate("GFLOP/s", call.cost.flops, gigaflops);
  rate("GB/s", call.cost.bytes, gigabytes);
}

inline void serve(const Case& item) {
  const Call call = item.prepare();
  warm_up(call);
  std::printf("ready\n");
  std::fflush(stdout);
  for (double seconds; std::cin >> seconds;) {
    std::vector<double> times;
    const auto start = Clock::now();
    do times.push_back(time(call));
    while (seconds_since(start) < seconds);
    std::nth_element(times.begin(), times.begin() + std::ptrdiff_t(times.size() / 2), times.end());
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    std::printf("%.9g %ld\n", times[times.size() / 2], usage.ru_maxrss);
    std::fflush(stdout);
  }
}

inline int run_cases(int argc, char** argv, const std::vector<Case>& cases) {
  if (argc == 3 && std::strcmp(argv[1], "--serve") == 0) {
    const auto item =
        std::find_if(cases.begin(), cases.end(), [&](const Case& c) { return c.name == argv[2]; });
    if (item == cases.end()) {
      std::fprintf(stderr, "found no case %s, --benchmark_list_tests lists them\n", argv[2]);
      return 1;
    }
    serve(*item);
    return 0;
  }
  for (const Case& item : cases)
    benchmark::RegisterBenchmark(item.name.c_str(), run_benchmark, item)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace ddpm::benchmarks
