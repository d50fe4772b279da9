// SPDX-License-Identifier: MIT
#include "gpu_case.hpp"

#include <algorithm>
#include <utility>

#include <benchmark/benchmark.h>

#include "vendor.hpp"

namespace ddpm::benchmarks {

namespace {

class Event {
 public:
  Event() { detail::cuda_check(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(const Cuda& device) const {
    detail::cuda_check(cudaEventRecord(event_, device.stream()), "cudaEventRecord");
  }
  // Waits for the device.
  double seconds_since(const Event& start) const {
    float milliseconds = 0;
    detail::cuda_check(cudaEventSynchronize(event_), "cudaEventSynchronize");
    detail::cuda_check(cudaEventElapsedTime(&milliseconds, start.event_, event_), "cudaEventElapsedTime");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

// Times work that finds nothing of its own in the caches.
class Timer {
 public:
  explicit Timer(const Cuda& device) : device_(device), other_(device, {2 * cache_bytes(device)}) {}

  double seconds(const Work& work) const {
    other_.zero();  // also keeps the device busy while the work is being queued
    start_.record(device_);
    work();
    end_.record(device_);
    return end_.seconds_since(start_);
  }
  double median_seconds(const Work& work, int runs) const {
    std::vector<double> times;
    for (int i = 0; i < runs; ++i) times.push_back(seconds(work));
    return median(times);
  }
  static double median(std::vector<double>& times) {
    const auto middle = times.begin() + std::ptrdiff_t(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    return *middle;
  }

 private:
  static std::int64_t cache_bytes(const Cuda& device) {
    int bytes = 0;
    detail::cuda_check(cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, device.index()),
                       "cudaDeviceGetAttribute");
    return std::max(bytes, 1 << 20);
  }

  Cuda device_;
  Tensor<std::uint8_t, Cuda> other_;
  Event start_, end_;
};

// Bytes read and written and operations in a second, at best.
struct Roof {
  double bytes, products[3];  // of float32, tf32, bf16

  double product(Arithmetic arithmetic) const { return products[static_cast<int>(arithmetic)]; }
  double seconds(const Cost& least, Arithmetic arithmetic) const {
    return std::max(double(least.bytes) / bytes, double(least.flops) / product(arithmetic));
  }
};

double copy_rate(const Cuda& device, const Timer& timer) {
  constexpr std::int64_t bytes = 1 << 28;
  const Tensor<std::uint8_t, Cuda> from = Tensor<std::uint8_t, Cuda>::zeros(device, {bytes});
  const Tensor<std::uint8_t, Cuda> to(device, {bytes});
  return 2.0 * bytes / timer.median_seconds([&] { to.copy_from(from); }, 21);
}

template <class T>
double product_rate(const Cuda& device, const Timer& timer) {
  constexpr int size = 4096;
  const auto x = Tensor<T, Cuda>::zeros(device, {size, size});
  const auto weight = Tensor<T, Cuda>::zeros(device, {size, size});
  const Tensor<T, Cuda> y(device, {size, size});
  const LinearForward<T> params{x.data(), weight.data(), nullptr, nullptr, nullptr,
                                1,        y.data(),      size,    size,    size};
  return static_cast<double>(cost(params).flops) / timer.median_seconds(vendor::cublas(device, params), 21);
}

Cuda with_tf32(Cuda device) {
  device.float_products = FloatProducts::tf32;
  return device;
}

struct Session {
  Timer timer;
  Roof roof;
  const GpuCase* item = nullptr;  // whose call is kept: Google Benchmark asks for it several times
  GpuCall call = {};

  explicit Session(const Cuda& device)
      : timer(device),
        roof{copy_rate(device, timer),
             {product_rate<float>(device, timer), product_rate<float>(with_tf32(device), timer),
              product_rate<bf16>(device, timer)}} {}

  const GpuCall& call_of(const GpuCase& wanted) {
    if (item != &wanted) {
      call = {};  // gives its memory back first
      call = wanted.prepare();
      for (int i = 0; i < 5; ++i) call.run();  // loads kernels, takes scratch memory, records graphs
      item = &wanted;
    }
    return call;
  }
};

void run_case(benchmark::State& state, Session& session, const GpuCase& item) {
  const GpuCall& call = session.call_of(item);
  std::vector<double> times;
  for (auto _ : state) {
    times.push_back(session.timer.seconds(call.run));
    state.SetIterationTime(times.back());
  }
  const double seconds = Timer::median(times);
  state.counters["median_ms"] = 1e3 * seconds;
  if (call.cost.bytes > 0) state.counters["GB/s"] = 1e-9 * double(call.cost.bytes) / seconds;
  if (call.cost.flops > 0) state.counters["TFLOP/s"] = 1e-12 * double(call.cost.flops) / seconds;
  state.counters["roof_%"] = 100 * session.roof.seconds(call.cost, item.arithmetic) / seconds;
  if (!call.baseline) return;
  call.baseline();
  const double baseline = session.timer.median_seconds(call.baseline, 21);
  state.counters["baseline_ms"] = 1e3 * baseline;
  state.counters["x_baseline"] = baseline / seconds;
}

void describe(const Cuda& device, const Roof& roof) {
  cudaDeviceProp card{};
  int driver = 0;
  detail::cuda_check(cudaGetDeviceProperties(&card, device.index()), "cudaGetDeviceProperties");
  detail::cuda_check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  benchmark::AddCustomContext("card", card.name);
  benchmark::AddCustomContext("cuda_of_driver", message(driver / 1000, ".", driver % 1000 / 10));
  benchmark::AddCustomContext("copy_GB/s", message(1e-9 * roof.bytes));
  for (const auto& [name, arithmetic] :
       {std::pair{"float", Arithmetic::float32}, {"tf32", Arithmetic::tf32}, {"bf16", Arithmetic::bf16}})
    benchmark::AddCustomContext(message("cublas_", name, "_TFLOP/s"),
                                message(1e-12 * roof.product(arithmetic)));
}

}  // namespace

int run_cases(const Cuda& device, const std::vector<GpuCase>& cases) {
  Session session(device);
  describe(device, session.roof);
  for (const GpuCase& item : cases)
    benchmark::RegisterBenchmark(item.name.c_str(),
                                 [&](benchmark::State& state) { run_case(state, session, item); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  return benchmark::RunSpecifiedBenchmarks() > 0 ? 0 : 1;
}

}  // namespace ddpm::benchmarks
