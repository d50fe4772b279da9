// SPDX-License-Identifier: MIT
// Self-attention on the host, one head of 256 tokens and 256 channels, forward and backward.
//
//   DDPM_THREADS=2 ./attention_benchmark --benchmark_filter=b16
#include "benchmark_case.hpp"

#include <ddpm/ops/cpu/attention.hpp>

namespace {

using namespace ddpm;
using namespace ddpm::benchmarks;

struct Problem {
  AttentionGeometry shape;
  Tensor<float, Cpu> qkv = filled({shape.n, shape.tokens, 3 * shape.channels()}), dqkv = filled(qkv.shape()),
                     out = filled({shape.n, shape.tokens, shape.channels()}), dout = filled(out.shape()),
                     logsumexp = filled({shape.n, shape.heads, shape.tokens});
};

Call prepare(int n, bool backward) {
  constexpr float scale = 1.0f / 16;
  const auto p = std::make_shared<Problem>(Problem{{n, 256, 1, 256}});
  const Call forward = call_of(
      Cpu{}, p, AttentionForward<float>{p->shape, p->qkv.data(), scale, p->out.data(), p->logsumexp.data()});
  if (!backward) return forward;
  forward.run();
  return call_of(Cpu{}, p,
                 AttentionBackward<float>{p->shape, p->qkv.data(), p->out.data(), p->dout.data(),
                                          p->logsumexp.data(), scale, p->dqkv.data()});
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<Case> cases;
  for (const int n : batches) {
    const std::string name = message("b", n, "/256x256");
    cases.push_back({message("attention/", name), [n] { return prepare(n, false); }});
    cases.push_back({message("attention_backward/", name), [n] { return prepare(n, true); }});
  }
  return run_cases(argc, argv, cases);
}
