// SPDX-License-Identifier: MIT
// Convolution on the host, every pass; GFLOP/s are counted as direct convolution. The forward pass has its weights
// prepared, as in sampling; backward data prepares them, as in training, where they change before the next pass.
//
//   DDPM_THREADS=2 ./conv2d_benchmark --benchmark_filter='b16/16x16/256'
#include "benchmark_case.hpp"

#include <ddpm/ops/cpu/conv2d.hpp>

namespace {

using namespace ddpm;
using namespace ddpm::benchmarks;

struct Layer {
  std::string name;
  int n, h, c, c2, cout, kernel = 3, stride = 1, upsample = 1;

  Conv2dGeometry geometry() const {
    const Conv2dOptions options{stride, kernel / 2, kernel / 2, upsample};
    const int p = detail::conv2d_extent(h, kernel, options);
    return {n, h, h, c, c2, cout, kernel, stride, kernel / 2, kernel / 2, upsample, p, p};
  }
};

enum class Pass { forward, backward_data, backward_weight };

struct Problem {
  Conv2dGeometry g;
  Cpu device;
  Tensor<float, Cpu> x, x2, weight, dy, dx, dx2, dweight, forward;

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
        forward(device, {conv2d_prepared_size<float>(device, g, Conv2dPass::forward)}) {
    launch(device, Conv2dPrepare<float>{g, Conv2dPass::forward, weight.data(), forward.data()});
  }
};

Call prepare(const Layer& layer, Pass pass, Cpu::Convolution convolution) {
  const Cpu device(convolution);
  const auto p = std::make_shared<Problem>(layer.geometry(), device);
  if (pass == Pass::forward)
    return call_of(device, p,
                   Conv2dForward<float>{p->g, p->x.data(), p->x2.data(), p->weight.data(), p->forward.data(),
                                        nullptr, nullptr, nullptr, 1.0f, p->dy.data()});
  if (pass == Pass::backward_data)
    return call_of(device, p,
                   Conv2dBackwardData<float>{p->g, p->dy.data(), p->weight.data(), nullptr, p->dx.data(),
                                             p->dx2.data()});
  return call_of(
      device, p,
      Conv2dBackwardWeight<float>{p->g, p->x.data(), p->x2.data(), p->dy.data(), p->dweight.data()});
}

std::vector<Layer> layers() {
  std::vector<Layer> all = {
      {"b32/28x28/32", 32, 28, 32, 0, 32},
      {"b32/28x28/64", 32, 28, 64, 0, 64},
      {"b32/28x28/64+64to64", 32, 28, 64, 64, 64},
      {"b32/14x14/64", 32, 14, 64, 0, 64},
      {"b32/14x14/128", 32, 14, 128, 0, 128},
      {"b32/7x7/128", 32, 7, 128, 0, 128},
      {"b32/28x28/32/down", 32, 28, 32, 0, 32, 3, 2},
      {"b32/14x14/64/down", 32, 14, 64, 0, 64, 3, 2},
      {"b32/14x14/64/up", 32, 14, 64, 0, 64, 3, 1, 2},
      {"b32/28x28/64to32/1x1", 32, 28, 64, 0, 32, 1},
      {"b32/28x28/64+64to64/1x1", 32, 28, 64, 64, 64, 1},
      {"b32/28x28/1to32", 32, 28, 1, 0, 32},
      {"b32/28x28/32to1", 32, 28, 32, 0, 1},
      {"b1/28x28/64", 1, 28, 64, 0, 64},
  };
  const std::pair<int, int> shapes[] = {{32, 32}, {32, 128}, {16, 256}, {8, 256}, {4, 256}};
  for (const int n : batches)
    for (const auto& [side, channels] : shapes)
      all.push_back({message("b", n, "/", side, "x", side, "/", channels), n, side, channels, 0, channels});
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  const std::pair<const char*, Pass> passes[] = {{"conv2d/", Pass::forward},
                                                 {"conv2d_dgrad/", Pass::backward_data},
                                                 {"conv2d_wgrad/", Pass::backward_weight}};
  const std::pair<const char*, Cpu::Convolution> modes[] = {{"", Cpu::Convolution::automatic},
                                                            {"/exact", Cpu::Convolution::exact},
                                                            {"/fast", Cpu::Convolution::fast}};
  std::vector<Case> cases;
  for (const Layer& layer : layers())
    for (const auto& [op, pass] : passes)
      for (const auto& [suffix, mode] : modes)
        cases.push_back({op + layer.name + suffix,
                         [layer, pass = pass, mode = mode] { return prepare(layer, pass, mode); }});
  return run_cases(argc, argv, cases);
}
