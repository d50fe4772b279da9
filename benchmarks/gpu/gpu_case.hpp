// SPDX-License-Identifier: MIT
// A benchmark on a GPU: our kernels, what they cost at least, and what to compare them with.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <ddpm/core/cuda.hpp>
#include <ddpm/core/tensor.hpp>
#include <ddpm/ops/cost.hpp>

namespace ddpm::benchmarks {

// Puts work on the device's stream; it owns the memory it works on.
using Work = std::function<void()>;

struct GpuCall {
  Work run;
  Cost cost;
  Work baseline = {};  // NVIDIA's library on the same problem, where there is one
};

enum class Arithmetic { float32, tf32, bf16 };

struct GpuCase {
  std::string name;
  Arithmetic arithmetic;  // of the cuBLAS product that is the roof
  std::function<GpuCall()> prepare;
};

// Reports for every case, with caches flushed before each run: its median time, GB/s and TFLOP/s by ops/cost.hpp, the
// part of the roof that is (a copy and a cuBLAS product in the same process), and how many times faster it is than the
// baseline. The options are Google Benchmark's. Returns the exit status.
int run_cases(const Cuda& device, const std::vector<GpuCase>& cases);

}  // namespace ddpm::benchmarks
