// SPDX-License-Identifier: MIT
// The memory traffic of the pointwise kernels: exact, and at most 2 % above the least of ops/cost.hpp.
#include <ddpm/ops/cost.hpp>

#include "op_test.hpp"
#include "pointwise_kernels.hpp"

using namespace ddpm;
using namespace ddpm::simt;

namespace {

// Of all blocks. A scalar is one word for all lanes of a warp, or for one lane, so a request of one sector.
// Scalars are counted in race builds only.
struct Traffic {
  std::int64_t vector_loads, vector_load_sectors;
  std::int64_t vector_stores, vector_store_sectors;
  std::int64_t scalar_loads = 0;    // requests
  std::int64_t scalar_stores = 0;   // requests
  std::int64_t scalar_sectors = 0;  // that differ within a block
};

template <class Params>
void check_traffic(const Params& params, const Traffic& expected) {
  Counters& sum = Executor::instance().sum;
  sum = {};
  simt::kernels::run(params);
  const std::int64_t seen = sum.has_scalar_accesses ? 1 : 0;
  CHECK(sum.global_loads.requests == expected.vector_loads + seen * expected.scalar_loads);
  CHECK(sum.global_loads.sectors == expected.vector_load_sectors + seen * expected.scalar_loads);
  CHECK(sum.global_stores.requests == expected.vector_stores + seen * expected.scalar_stores);
  CHECK(sum.global_stores.sectors == expected.vector_store_sectors + seen * expected.scalar_stores);
  const std::int64_t vectors = expected.vector_load_sectors + expected.vector_store_sectors;
  CHECK(sum.global_bytes() == sector_bytes * (vectors + seen * expected.scalar_sectors));
  CHECK(static_cast<double>(sum.global_bytes()) <= 1.02 * static_cast<double>(cost(params).bytes));
}

// Four samples of 1024 elements: four blocks of 8 warps, each of which moves 128 neighbouring elements in one
// request: 16 sectors of floats, 8 of bf16, 4 of bytes.
constexpr int n = 4;
constexpr std::int64_t per_sample = 16 * 16 * 4, count = n * per_sample;
constexpr std::int64_t requests = 32, floats = 16 * requests, halves = 8 * requests, bytes = 4 * requests;
constexpr std::int64_t warps = 32, blocks = 4;

template <class T>
Operand<T> operand(unsigned seed) {
  return Operand<T>(normal_values<T>(count, seed));
}

}  // namespace

TEST_CASE("traffic of noising") {
  const Operand<std::int32_t> t({0, 1, 1, 0});
  const Operand<float> signal({0.9f, 0.8f}), sigma({0.4f, 0.6f});
  const Operand<std::uint8_t> pixels{std::vector<std::uint8_t>(count)};
  const auto set_up = [&](auto p) {
    p.t = t.device(), p.signal = signal.device(), p.sigma = sigma.device();
    p.n = n, p.h = 16, p.w = 16, p.c = 4;
    return p;
  };
  // Each warp reads t, signal and sigma, from a sector each.
  SECTION("float") {
    const auto x0 = operand<float>(1), noise = operand<float>(2);
    const auto xt = operand<float>(3), target = operand<float>(4);
    auto p = set_up(Noising<float>{});
    p.x0 = x0.device(), p.xt = xt.device();
    check_traffic(p, {requests, floats, requests, floats, 3 * warps, 0, 3 * blocks});
    p.noise = noise.device();
    check_traffic(p, {2 * requests, 2 * floats, requests, floats, 3 * warps, 0, 3 * blocks});
    p.x0 = nullptr, p.pixels = pixels.device(), p.noise = nullptr, p.target = target.device();
    check_traffic(p, {requests, bytes, 2 * requests, 2 * floats, 3 * warps, 0, 3 * blocks});
  }
  SECTION("bf16") {
    const auto x0 = operand<float>(1), xt = operand<float>(3), target = operand<float>(4);
    const auto model_input = operand<bf16>(5);
    auto p = set_up(Noising<bf16>{});
    p.x0 = x0.device(), p.xt = xt.device(), p.model_input = model_input.device();
    check_traffic(p, {requests, floats, 2 * requests, floats + halves, 3 * warps, 0, 3 * blocks});
    p.x0 = nullptr, p.pixels = pixels.device(), p.xt = nullptr, p.target = target.device();
    check_traffic(p, {requests, bytes, 2 * requests, floats + halves, 3 * warps, 0, 3 * blocks});
  }
}

TEST_CASE("traffic of the reverse step") {
  const Operand<DenoisingCoefficients<float>> table({{}, {1.1f, -0.4f, 0.3f, 0.6f, 0.1f, 0.5f, 4}});
  const Operand<std::int32_t> step({1});
  const auto x = operand<float>(1), m = operand<float>(2), z = operand<float>(3), x0 = operand<float>(4);
  const auto half_m = operand<bf16>(2), model_input = operand<bf16>(5);
  // The step, and six words of a row of the table, which lie in two sectors.
  Denoising<float> p{x.device(), m.device(), table.device(), step.device(), 1.0f, nullptr, {},
                     nullptr,    n,          per_sample};
  check_traffic(p, {2 * requests, 2 * floats, requests, floats, 7 * warps, 0, 3 * blocks});
  p.noise = z.device(), p.x0 = x0.device();
  check_traffic(p, {3 * requests, 3 * floats, 2 * requests, 2 * floats, 7 * warps, 0, 3 * blocks});
  check_traffic(Denoising<bf16>{x.device(),
                                half_m.device(),
                                table.device(),
                                step.device(),
                                1.0f,
                                nullptr,
                                {},
                                nullptr,
                                n,
                                per_sample,
                                model_input.device()},
                {2 * requests, floats + halves, 2 * requests, floats + halves, 7 * warps, 0, 3 * blocks});
  check_traffic(FillNormal<float>{x.device(), {}, n, per_sample}, {0, 0, requests, floats});
}

TEMPLATE_TEST_CASE("traffic of the loss", "", float, bf16) {
  using T = TestType;
  const std::int64_t sectors = sizeof(T) == 4 ? floats : halves;
  const auto prediction = operand<T>(1), gradient = operand<T>(3);
  const auto target = operand<float>(2);
  const Operand<float> weight({1, 2, 3, 4}), loss({0});
  // Each block stores a partial sum; one more reads all of them, in one sector, and stores the loss.
  MseLoss<T> p{prediction.device(), target.device(), nullptr, loss.device(), gradient.device(), n,
               per_sample};
  const std::int64_t loads = sectors + floats;
  check_traffic(p, {2 * requests, loads, requests, sectors, 1, blocks + 1, blocks + 2});
  p.weight = weight.device();
  check_traffic(p, {2 * requests, loads, requests, sectors, warps + 1, blocks + 1, 2 * blocks + 2});
  p.dprediction = nullptr;
  check_traffic(p, {2 * requests, loads, 0, 0, warps + 1, blocks + 1, 2 * blocks + 2});
}

TEST_CASE("traffic of the squared norm") {
  const auto x = operand<float>(1);
  const Operand<float> norm({0});
  check_traffic(SquaredNorm<float>{x.device(), norm.device(), count},
                {requests, floats, 0, 0, 1, blocks + 1, blocks + 2});
}

TEST_CASE("traffic of AdamW, with clipping, EMA and a bf16 copy") {
  const auto gradient = operand<float>(1), value = operand<float>(2), first = operand<float>(3),
             average = operand<float>(4);
  const Operand<float> second{std::vector<float>(count)}, norm({1});
  const auto copy = operand<bf16>(5);
  const Operand<AdamWStep> step({adamw_step({}, 1, 0.99)});
  const Operand<double> decay({0.99});
  AdamWUpdate<float> p{.value = value.device(),
                       .gradient = gradient.device(),
                       .first = first.device(),
                       .second = second.device(),
                       .average = average.device(),
                       .copy = copy.device(),
                       .squared_norm = norm.device(),
                       .step = step.device(),
                       .options = {.grad_clip = 1},
                       .count = count};
  check_traffic(p, {5 * requests, 5 * floats, 5 * requests, 4 * floats + halves, 5 * warps, 0, 2 * blocks});
  p.average = nullptr, p.copy = nullptr, p.squared_norm = nullptr;
  check_traffic(p, {4 * requests, 4 * floats, 3 * requests, 3 * floats, 4 * warps, 0, blocks});
  check_traffic(EmaUpdate<float>{value.device(), average.device(), decay.device(), count},
                {2 * requests, 2 * floats, requests, floats, warps, 0, blocks});
}

TEMPLATE_TEST_CASE("traffic of SiLU", "", float, bf16) {
  using T = TestType;
  const std::int64_t sectors = sizeof(T) == 4 ? floats : halves;
  const auto x = operand<T>(1), dy = operand<T>(2), out = operand<T>(3);
  check_traffic(SiluForward<T>{x.device(), out.device(), count}, {requests, sectors, requests, sectors});
  check_traffic(SiluBackward<T>{x.device(), dy.device(), out.device(), count},
                {2 * requests, 2 * sectors, requests, sectors});
}

TEST_CASE("only the last elements of a flat buffer are moved one by one") {
  constexpr std::int64_t length = 1021, vectors = 8;
  const auto x = operand<float>(1), out = operand<float>(2);
  check_traffic(SiluForward<float>{x.device(), out.device(), length}, {vectors, 128, vectors, 128, 1, 1});
}
