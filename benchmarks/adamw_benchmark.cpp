// SPDX-License-Identifier: MIT
// AdamW on the host for as many parameters as the CIFAR-10 U-Net has.
//
//   DDPM_THREADS=2 ./adamw_benchmark
#include "benchmark_case.hpp"

#include <ddpm/ops/cpu/adamw.hpp>

namespace {

using namespace ddpm;
using namespace ddpm::benchmarks;

constexpr std::int64_t parameters = 35'746'307;

struct Problem {
  Tensor<float, Cpu> value = filled({parameters}), gradient = filled({parameters}),
                     first = Tensor<float, Cpu>::zeros(Cpu{}, {parameters}),
                     second = Tensor<float, Cpu>::zeros(Cpu{}, {parameters});
  AdamWOptions options{.lr = 2e-4};
  AdamWStep step = adamw_step(options, 1);
};

Call prepare() {
  const auto p = std::make_shared<Problem>();
  return call_of(Cpu{}, p,
                 AdamWUpdate<float>{p->value.data(), p->gradient.data(), p->first.data(), p->second.data(),
                                    nullptr, nullptr, nullptr, &p->step, p->options, parameters});
}

}  // namespace

int main(int argc, char** argv) { return run_cases(argc, argv, {{"adamw/35746307", prepare}}); }
