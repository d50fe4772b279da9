// SPDX-License-Identifier: MIT
// Group normalisation with SiLU on the host, 32 groups, forward and backward.
//
//   DDPM_THREADS=2 ./group_norm_benchmark --benchmark_filter=b16
#include "benchmark_case.hpp"

#include <ddpm/ops/cpu/group_norm.hpp>

namespace {

using namespace ddpm;
using namespace ddpm::benchmarks;

struct Problem {
  GroupNormGeometry shape;
  Tensor<float, Cpu> x = filled({shape.n, shape.hw, shape.c}), y = filled(x.shape()), dx = filled(x.shape()),
                     gamma = filled({shape.c}), beta = filled({shape.c}), dgamma = filled({shape.c}),
                     dbeta = filled({shape.c}), mean = filled({shape.n, shape.groups}),
                     rstd = filled({shape.n, shape.groups});
};

Call prepare(const GroupNormGeometry& shape, bool backward) {
  const auto p = std::make_shared<Problem>(Problem{shape});
  const Call forward =
      call_of(Cpu{}, p,
              GroupNormForward<float>{shape, p->x.data(), nullptr, p->gamma.data(), p->beta.data(), nullptr,
                                      1e-6f, Activation::silu, p->y.data(), p->mean.data(), p->rstd.data()});
  if (!backward) return forward;
  forward.run();  // leaves mean and rstd
  return call_of(
      Cpu{}, p,
      GroupNormBackward<float>{shape, p->y.data(), p->x.data(), nullptr, p->gamma.data(), p->beta.data(),
                               nullptr, p->mean.data(), p->rstd.data(), Activation::silu, nullptr, nullptr,
                               p->dx.data(), nullptr, p->dgamma.data(), p->dbeta.data(), nullptr});
}

}  // namespace

int main(int argc, char** argv) {
  const std::pair<int, int> shapes[] = {{32, 128}, {16, 256}, {8, 256}};
  std::vector<Case> cases;
  for (const int n : batches)
    for (const auto& [side, channels] : shapes) {
      const std::string name = message("b", n, "/", side, "x", side, "/", channels);
      const GroupNormGeometry shape{n, side * side, channels, 0, 32};
      cases.push_back({message("group_norm/", name), [shape] { return prepare(shape, false); }});
      cases.push_back({message("group_norm_backward/", name), [shape] { return prepare(shape, true); }});
    }
  return run_cases(argc, argv, cases);
}
