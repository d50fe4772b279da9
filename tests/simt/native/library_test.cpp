// SPDX-License-Identifier: MIT
// Kernels against cuDNN and cuBLAS, at sizes that Reference would take long for.
#include <array>

#include "../conv2d_kernels.hpp"
#include "../conv2d_problem.hpp"
#include "vendor.hpp"

using namespace ddpm;
using namespace ddpm::simt;

namespace {

// cuDNN may take Winograd's algorithm, whose rounding is larger than ours.
constexpr double library_tolerance = 5e-5;

// Runs a kernel and a library on the same operands, each into `result`, and compares.
template <class Params, class Library, class T>
void check_alike(const Params& params, Library library, const Operand<T>& result) {
  const vendor::Work work = library(params);
  if (!work) return;
  result.restore();
  simt::kernels::run(params);
  const std::vector<T> ours = result.device_values();
  result.restore();
  work();
  const std::vector<T> theirs = result.device_values();
  CHECK(relative_error(ours, theirs.data()) < library_tolerance);
}

constexpr auto cudnn = [](const auto& params) { return vendor::cudnn(Cuda{}, params); };
constexpr auto cublas = [](const auto& params) { return vendor::cublas(Cuda{}, params); };

const std::vector<Conv2dGeometry> shapes = {
    geometry({2, 32, 32, 128, 0}, 128, 3, {}), geometry({2, 32, 32, 3, 0}, 128, 3, {}),
    geometry({2, 32, 32, 128, 0}, 3, 3, {}),   geometry({2, 32, 32, 128, 0}, 128, 3, {.stride = 2}),
    geometry({4, 8, 8, 512, 0}, 256, 3, {}),   geometry({2, 16, 16, 384, 0}, 256, 1, no_padding)};

template <class T>
struct LinearProblem {
  std::int64_t m;
  int in, out;
  Operand<T> x = values(m * in, 1), weight = values(std::int64_t{in} * out, 2), dy = values(m * out, 3),
             y = values(m * out, 4), dx = values(m * in, 5);
  Operand<float> dweight{normal_values<float>(weight.size(), 6)};

  static Operand<T> values(std::int64_t count, unsigned seed) {
    return Operand<T>(normal_values<T>(static_cast<std::size_t>(count), seed));
  }
};

}  // namespace

TEMPLATE_TEST_CASE("convolutions are those of cuDNN", "", float, bf16) {
  for (const Conv2dGeometry& g : shapes) {
    INFO(simt::name(g));
    Problem<TestType> p{.g = g, .present = none, .scale = 1};
    check_alike(p.forward(on_device), cudnn, p.y);
    check_alike(p.backward_data(on_device), cudnn, p.dx);
  }
}

// In float only: cuDNN rounds a gradient of bf16 to bf16. It overwrites, so ours begins at zero.
TEST_CASE("gradients of weights are those of cuDNN") {
  for (const Conv2dGeometry& g : shapes) {
    INFO(simt::name(g));
    Problem<float> p{.g = g, .present = none};
    Operand<float> dweight(std::vector<float>(p.dweight.size()));
    Conv2dBackwardWeight<float> params = p.backward_weight(on_device);
    params.dweight = dweight.device();
    check_alike(params, cudnn, dweight);
  }
}

TEMPLATE_TEST_CASE("linear layers are those of cuBLAS", "", float, bf16) {
  for (const auto& [m, in, out] : {std::array{512, 256, 768}, {333, 40, 24}, {128, 512, 256}}) {
    INFO(m << " x " << in << " to " << out);
    LinearProblem<TestType> p{m, in, out};
    check_alike(LinearForward<TestType>{p.x.device(), p.weight.device(), nullptr, nullptr, nullptr, 1,
                                        p.y.device(), m, in, out},
                cublas, p.y);
    check_alike(
        LinearBackwardData<TestType>{p.dy.device(), p.weight.device(), nullptr, p.dx.device(), m, in, out},
        cublas, p.dx);
    check_alike(LinearBackwardWeight<TestType>{p.x.device(), p.dy.device(), p.dweight.device(), m, in, out},
                cublas, p.dweight);
  }
}
