// SPDX-License-Identifier: MIT
// Small pointwise ops, embeddings and random numbers: kernels against Reference, and where the bits must be
// the same against Cpu.
#include <ddpm/ops/cpu/denoising.hpp>
#include <ddpm/ops/cpu/elementwise.hpp>
#include <ddpm/ops/cpu/embedding.hpp>
#include <ddpm/ops/reference/elementwise.hpp>
#include <ddpm/ops/reference/embedding.hpp>

#include "elementwise_kernels.hpp"
#include "op_test.hpp"

using namespace ddpm;
using namespace ddpm::simt;

namespace {

constexpr double tolerance = 1e-5;

// The error of `result`, which has the same bits under every schedule.
template <class Params, class T>
double error_everywhere(const Params& params, Operand<T>& result) {
  launch(Reference{}, params(on_host));
  run_everywhere_alike([&] { simt::kernels::run(params(on_device)); }, result);
  return error_of(result);
}

template <class T>
bool has_bits_of_host(Operand<T>& result) {
  const std::vector<T> values = result.device_values();
  return std::memcmp(values.data(), result.host(), values.size() * sizeof(T)) == 0;
}

template <class T>
Operand<T> normal_operand(std::size_t count, unsigned seed, std::size_t offset = 0) {
  return Operand<T>(normal_values<T>(count, seed), offset);
}

// Of two operands, in elements.
const std::vector<std::pair<std::size_t, std::size_t>> offsets = {{0, 0}, {1, 0}, {0, 1}};

const std::vector<RandomPosition> positions = {
    {0, 0, 0, RandomStream::forward_noise},
    {1, 5, 7, RandomStream::dropout},
    {0xffffffffu, 0xfffffffeu, 1000, RandomStream::initial_noise},  // sample + n passes 2^32
    {0x123456789abcdef0u, std::uint64_t{1} << 40, 0xffffffffu, RandomStream::sampler_noise}};

}  // namespace

TEMPLATE_TEST_CASE("sums, casts and affine maps", "", float, bf16) {
  using T = TestType;
  using Other = std::conditional_t<std::is_same_v<T, float>, bf16, float>;
  for (const std::size_t count : {1u, 1027u, 2048u})
    for (const auto& [from, to] : offsets) {
      const auto n = static_cast<std::int64_t>(count);
      auto x = normal_operand<T>(count, 1, from), y = normal_operand<T>(count, 2, to);
      auto other = normal_operand<Other>(count, 3, to);
      CHECK(error_everywhere([&](auto at) { return AddTo<T>{at(x), at(y), n}; }, y) < tolerance);
      CHECK(error_everywhere(
                [&](auto at) {
                  return Affine<T>{at(x), at(y), 0.7f, -0.3f, n};
                },
                y) < tolerance);
      error_everywhere([&](auto at) { return Cast<T, Other>{at(x), at(other), n}; }, other);
      CHECK(has_bits_of_host(other));
    }
}

TEMPLATE_TEST_CASE("dropout", "", float, bf16) {
  using T = TestType;
  for (const std::size_t per_sample : {1u, 30u, 1028u})
    for (const auto& [from, to] : offsets) {
      const auto elements = static_cast<std::int64_t>(per_sample);
      auto x = normal_operand<T>(3 * per_sample, 1, from), y = normal_operand<T>(3 * per_sample, 2, to);
      const auto dropout = [&](auto at) { return Dropout<T>{at(x), at(y), positions[2], 0.3, 3, elements}; };
      CHECK(error_everywhere(dropout, y) < tolerance);
      const auto in_place = [&](auto at) { return Dropout<T>{at(x), at(x), positions[1], 0.9, 3, elements}; };
      CHECK(error_everywhere(in_place, x) < tolerance);
    }
}

TEST_CASE("dropout keeps the elements that Cpu keeps") {
  for (const RandomPosition& position : positions) {
    // The first element is just kept with `word`, and just dropped with half a unit more.
    const double word = random_words(position, 0).word[0];
    for (const double probability :
         {0.0, 0.25, 0x1p-32, 1 - 0x1p-32, word * 0x1p-32, (word + 0.5) * 0x1p-32}) {
      constexpr int n = 3, per_sample = 1031;
      auto x = normal_operand<float>(n * per_sample, 1), y = normal_operand<float>(n * per_sample, 2);
      launch(Cpu{}, Dropout<float>{x.host(), y.host(), position, probability, n, per_sample});
      simt::kernels::run(Dropout<float>{x.device(), y.device(), position, probability, n, per_sample});
      CHECK(has_bits_of_host(y));
    }
  }
}

TEMPLATE_TEST_CASE("concatenation and split", "", float, bf16) {
  using T = TestType;
  struct Rows {
    int c, c2;
    std::size_t offset = 0, offset_of_y = 0;
  };
  for (const auto& [c, c2, offset, offset_of_y] :
       {Rows{1, 1}, {4, 3}, {3, 4}, {132, 260}, {129, 2}, {8, 4}, {8, 4, 1, 0}, {8, 4, 0, 1}}) {
    constexpr std::size_t rows = 11;
    const auto joined = static_cast<std::size_t>(c + c2);
    auto x = normal_operand<T>(rows * static_cast<std::size_t>(c), 1, offset),
         x2 = normal_operand<T>(rows * static_cast<std::size_t>(c2), 2, offset),
         y = normal_operand<T>(rows * joined, 3, offset_of_y);
    const auto concat = [&, c = c, c2 = c2](auto at) { return Concat<T>{at(x), at(x2), at(y), rows, c, c2}; };
    error_everywhere(concat, y);
    CHECK(has_bits_of_host(y));
    auto z = normal_operand<T>(rows * joined, 4, offset_of_y);
    const auto split = [&, c = c, c2 = c2](auto at) { return Split<T>{at(z), at(x), at(x2), rows, c, c2}; };
    error_everywhere(split, x);
    CHECK(has_bits_of_host(x));
    CHECK(has_bits_of_host(x2));
  }
}

TEMPLATE_TEST_CASE("the embedding of time steps", "", float, bf16) {
  using T = TestType;
  for (const int dim : {4, 7, 128, 257})
    for (const bool flips : {false, true}) {
      Operand<std::int32_t> t({0, 1, 999, 500, 123});
      auto y = normal_operand<T>(5 * static_cast<std::size_t>(dim), 1);
      const auto embedding = [&](auto at) {
        return TimestepEmbedding<T>{at(t), at(y), 5, dim, flips, flips ? 0.0 : 1.0};
      };
      error_everywhere(embedding, y);
      CHECK(has_bits_of_host(y));
      if constexpr (std::is_same_v<T, float>) {
        launch(Cpu{}, embedding(on_host));
        CHECK(has_bits_of_host(y));
      }
    }
}

TEMPLATE_TEST_CASE("the embedding of classes", "", float, bf16) {
  using T = TestType;
  constexpr std::size_t classes = 6, n = 7;
  for (const std::size_t dim : {1u, 37u, 516u})
    for (const auto& [from, to] : offsets) {
      auto table = normal_operand<float>(classes * dim, 1, from);
      auto y = normal_operand<T>(n * dim, 2, to);
      Operand<std::int32_t> label({5, 5, 0, 2, 0, 5, 1});  // 3 and 4 are absent
      const auto width = static_cast<int>(dim);
      const auto forward = [&](auto at) { return ClassEmbedding<T>{at(table), at(label), at(y), n, width}; };
      CHECK(error_everywhere(forward, y) < tolerance);
      const auto backward = [&](auto at) {
        return ClassEmbeddingBackward<T>{at(y), at(label), at(table), n, width};
      };
      // Of the very gradients that the host has.
      CudaSim{}.upload(y.device(), y.host(), n * dim * sizeof(T));
      error_everywhere(backward, table);
      CHECK(has_bits_of_host(table));
    }
}

TEST_CASE("random words are those of Cpu, integer for integer") {
  for (const RandomPosition& position : positions) {
    constexpr int n = 3, blocks = 131;
    Operand<std::uint32_t> words(std::vector<std::uint32_t>(n * 4 * blocks));
    for (int sample = 0; sample < n; ++sample) {
      RandomPosition at = position;
      at.sample += static_cast<std::uint64_t>(sample);
      detail::cpu::draw_words(at, 0, 4 * blocks, words.host() + sample * 4 * blocks);
    }
    simt::kernels::run(simt::kernels::RandomWords{words.device(), position, n, blocks});
    CHECK(has_bits_of_host(words));
  }
}

// The integers are the same, but Cpu has vectorised logarithms and sines.
TEST_CASE("normal noise is that of Cpu, to 1e-6, in every op that draws it") {
  for (const RandomPosition& position : positions) {
    constexpr int n = 3, per_sample = 1031;
    Operand<float> noise(std::vector<float>(n * per_sample));
    launch(Cpu{}, FillNormal<float>{noise.host(), position, n, per_sample});
    simt::kernels::run(FillNormal<float>{noise.device(), position, n, per_sample});
    const std::vector<float> drawn = noise.device_values();
    for (std::size_t i = 0; i < drawn.size(); ++i)
      REQUIRE(std::abs(drawn[i] - noise.host()[i]) < 1e-6f * std::max(1.0f, std::abs(drawn[i])));

    auto x0 = normal_operand<float>(n * per_sample, 1);
    Operand<float> xt(std::vector<float>(n * per_sample)), eps(std::vector<float>(n * per_sample));
    Operand<float> one({1.0f});
    Operand<std::int32_t> t({0, 0, 0});
    Noising<float> noising{};
    noising.x0 = x0.device(), noising.t = t.device(), noising.signal = noising.sigma = one.device();
    noising.position = position;
    noising.xt = xt.device(), noising.target = eps.device();
    noising.n = n, noising.h = 1, noising.w = per_sample, noising.c = 1;
    simt::kernels::run(noising);
    CHECK(eps.device_values() == drawn);
  }
}
