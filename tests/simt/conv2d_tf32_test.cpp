// SPDX-License-Identifier: MIT
// Products of float that are rounded to TF32: how far they are off, and that they must be asked for.
#include <algorithm>
#include <bit>

#include "conv2d_kernels.hpp"
#include "conv2d_problem.hpp"

using namespace ddpm;
using namespace ddpm::simt;

namespace {

constexpr FloatProducts exact = FloatProducts::exact, tf32 = FloatProducts::tf32;

void make_positive(Operand<float>& operand) {
  std::transform(operand.host(), operand.host() + operand.size(), operand.host(),
                 [](float value) { return std::abs(value); });
}

// A factor is off by at most 2^-11 of itself, a product by 2^-10 and the square of half of that, a sum of products by as
// much of the sum of their magnitudes. On average, errors cancel as the normal numbers do that are added, and are 0.3 of
// a thousandth of the sum's own size, whatever the number of products.
void check_error(Operand<float>& found, Operand<float>& magnitude) {
  const std::vector<float> values = found.device_values();
  double largest = 0, error = 0;
  int beyond = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double expected = found.host()[i], off = std::abs(values[i] - expected);
    largest = std::max(largest, std::abs(expected));
    error = std::max(error, off);
    beyond += !(off <= (0x1p-10 + 0x1p-22) * magnitude.host()[i] + tolerance);
  }
  CHECK(beyond == 0);
  CHECK(error < 1e-3 * largest);
  CHECK(error > 1e-4 * largest);
}

}  // namespace

TEST_CASE("TF32 is off by what the rounding of both factors explains") {
  for (const Conv2dGeometry& g :
       {geometry({1, 3, 3, 4, 0}, 4, 1, no_padding), geometry({2, 5, 7, 36, 4}, 68, 3, {}),
        geometry({1, 4, 4, 512, 0}, 12, 3, {})}) {
    INFO(simt::name(g));
    Problem<float> p{.g = g, .present = none, .scale = 1}, magnitude{.g = g, .present = none, .scale = 1};
    for (Operand<float>* factor : {&magnitude.x, &magnitude.x2, &magnitude.weight, &magnitude.dy})
      make_positive(*factor);
    std::fill_n(magnitude.dweight.host(), magnitude.dweight.size(), 0.0f);
    for (Problem<float>* problem : {&p, &magnitude}) {
      launch(Reference{}, problem->forward(on_host));
      launch(Reference{}, problem->backward_data(on_host));
      launch(Reference{}, problem->backward_weight(on_host));
    }
    simt::kernels::run(tf32, p.forward(on_device));
    check_error(p.y, magnitude.y);
    simt::kernels::run(tf32, p.backward_data(on_device));
    check_error(p.dx, magnitude.dx);
    simt::kernels::run(tf32, p.backward_weight(on_device));
    check_error(p.dweight, magnitude.dweight);
  }
}

TEST_CASE("a NaN is not rounded to a number") {
  Problem<float> p{.g = geometry({1, 2, 2, 4, 0}, 4, 1, no_padding), .present = none};
  for (const std::uint32_t bits : {0x7fffffffu, 0xffffffffu, 0x7f800001u}) {
    std::vector<float> x = p.x.device_values();
    x.back() = std::bit_cast<float>(bits);
    CudaSim{}.upload(p.x.device(), x.data(), x.size() * sizeof(float));
    simt::kernels::run(tf32, p.forward(on_device));
    simt::kernels::run(tf32, p.backward_weight(on_device));
    CHECK(std::isnan(p.y.device_values().back()));
    CHECK(std::isnan(p.dweight.device_values().back()));
    p.dweight.restore();
  }
}

TEST_CASE("TF32 is for devices that ask for it, and not for wgmma") {
  Problem<float> p{.g = geometry({1, 2, 2, 64, 64}, 128, 1, no_padding)};
  const auto check_refusals = [&](const auto& params) {
    CHECK_THROWS_AS(simt::kernels::run_on_tensor_cores(exact, params), ConfigError);
    CHECK_THROWS_AS(simt::kernels::run_by_wgmma(tf32, params), ConfigError);
  };
  check_refusals(p.forward(on_device));
  check_refusals(p.backward_data(on_device));
  check_refusals(p.backward_weight(on_device));
  try {
    simt::kernels::run_on_tensor_cores(exact, p.forward(on_device));
  } catch (const ConfigError& error) {
    CHECK(contains(error.what(), "found FloatProducts::exact, 4 bytes per element, 64 + 64 channels"));
  }
}
