// SPDX-License-Identifier: MIT
// Linear layers on the host, every pass: 256 tokens per image. The forward pass has its weights prepared, backward data
// prepares them, as conv2d_benchmark.
//
//   DDPM_THREADS=2 ./linear_benchmark --benchmark_filter=b16
#include "benchmark_case.hpp"

#include <ddpm/ops/cpu/linear.hpp>

namespace {

using namespace ddpm;
using namespace ddpm::benchmarks;

constexpr int tokens = 256;

enum class Pass { forward, backward_data, backward_weight };

struct Problem {
  std::int64_t m;
  int in, out;
  Tensor<float, Cpu> x = filled({m, in}), y = filled({m, out}), weight = filled({out, in}),
                     bias = filled({out}), dweight = filled({out, in}), forward = prepared();

  Tensor<float, Cpu> prepared() const {
    const Conv2dGeometry g = linear_geometry(m, in, out);
    Tensor<float, Cpu> to(Cpu{}, {conv2d_prepared_size<float>(Cpu{}, g, Conv2dPass::forward)});
    launch(Cpu{}, Conv2dPrepare<float>{g, Conv2dPass::forward, weight.data(), to.data()});
    return to;
  }
};

Call prepare(int n, int in, int out, Pass pass) {
  const auto p = std::make_shared<Problem>(Problem{n * tokens, in, out});
  if (pass == Pass::forward)
    return call_of(Cpu{}, p,
                   LinearForward<float>{p->x.data(), p->weight.data(), p->forward.data(), p->bias.data(),
                                        nullptr, 1.0f, p->y.data(), p->m, in, out});
  if (pass == Pass::backward_data)
    return call_of(
        Cpu{}, p,
        LinearBackwardData<float>{p->y.data(), p->weight.data(), nullptr, p->x.data(), p->m, in, out});
  return call_of(Cpu{}, p,
                 LinearBackwardWeight<float>{p->x.data(), p->y.data(), p->dweight.data(), p->m, in, out});
}

}  // namespace

int main(int argc, char** argv) {
  const std::pair<const char*, Pass> passes[] = {{"linear/", Pass::forward},
                                                 {"linear_dgrad/", Pass::backward_data},
                                                 {"linear_wgrad/", Pass::backward_weight}};
  const std::pair<int, int> layers[] = {{256, 256}, {256, 768}};
  std::vector<Case> cases;
  for (const int n : batches)
    for (const auto& [in, out] : layers)
      for (const auto& [op, pass] : passes)
        cases.push_back({message(op, "b", n, "/", in, "to", out),
                         [n, in = in, out = out, pass = pass] { return prepare(n, in, out, pass); }});
  return run_cases(argc, argv, cases);
}
