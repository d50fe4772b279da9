// SPDX-License-Identifier: MIT
#include <cmath>
#include <set>
#include <vector>

#include <ddpm/core/rng.hpp>

#include "catch_shim.hpp"

using namespace ddpm;

namespace {

bool same(const PhiloxWords& a, const PhiloxWords& b) {
  for (int i = 0; i < 4; ++i)
    if (a.word[i] != b.word[i]) return false;
  return true;
}

constexpr std::uint32_t ones = 0xffffffffu;

}  // namespace

TEST_CASE("philox gives the known answers of Random123", "[rng]") {
  CHECK(same(philox4x32_10({{0, 0, 0, 0}}, 0, 0), {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}));
  CHECK(same(philox4x32_10({{ones, ones, ones, ones}}, ones, ones),
             {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}));
  CHECK(same(philox4x32_10({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0),
             {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}));
}

TEST_CASE("philox is known at compile time", "[rng]") {
  static_assert(philox4x32_10({{0, 0, 0, 0}}, 0, 0).word[0] == 0x6627e8d5);
}

TEST_CASE("a random position names one draw", "[rng]") {
  const RandomPosition at{0x299f31d0a4093822ull, 0x785a308d3ull, 0x13198a2e, RandomStream::dropout};
  // counter = {block, sample, step, stream and the sample's upper bits}, key = seed
  const PhiloxWords direct =
      philox4x32_10({{9, 0x85a308d3, 0x13198a2e, 5u | 7u << 8}}, 0xa4093822, 0x299f31d0);
  CHECK(same(random_words(at, 9), direct));

  std::set<std::uint32_t> seen{random_words(at, 9).word[0]};
  RandomPosition other = at;
  other.seed += 1ull << 32;
  seen.insert(random_words(other, 9).word[0]);
  other = at;
  other.sample += 1ull << 32;
  seen.insert(random_words(other, 9).word[0]);
  other = at;
  ++other.step;
  seen.insert(random_words(other, 9).word[0]);
  other = at;
  other.stream = RandomStream::flip;
  seen.insert(random_words(other, 9).word[0]);
  seen.insert(random_words(at, 10).word[0]);
  CHECK(seen.size() == 6);

  const std::uint64_t origin = 0x700000000ull;
  const RandomPosition from_origin{at.seed, at.sample - origin, at.step, at.stream, &origin};
  CHECK(same(random_words(from_origin, 9), direct));
}

TEST_CASE("uniform lies in (0, 1]", "[rng]") {
  CHECK(uniform(0) > 0);
  CHECK(uniform(0) == 0x1p-33f);
  CHECK(uniform(ones) == 1);
  CHECK(uniform(0x80000000u) == Approx(0.5));
  CHECK(std::isfinite(normals({{0, 0, 0, 0}}).value[0]));
  CHECK(std::isfinite(normals({{ones, ones, ones, ones}}).value[2]));
}

TEST_CASE("uniform_below covers its range evenly", "[rng]") {
  CHECK(uniform_below(0, 7) == 0);
  CHECK(uniform_below(ones, 7) == 6);
  CHECK(uniform_below(ones, 1) == 0);
  std::vector<int> count(7);
  const int draws = 70000;
  for (int i = 0; i < draws / 4; ++i)
    for (const std::uint32_t word :
         random_words({3, 0, 0, RandomStream::shuffle}, static_cast<std::uint32_t>(i)).word)
      ++count[uniform_below(word, 7)];
  for (const int c : count) CHECK(std::abs(c - 10000) < 5 * std::sqrt(10000 * 6 / 7.0));
}

TEST_CASE("normals have the moments of the normal distribution", "[rng]") {
  const int draws = 400000;
  double sum[5] = {}, product = 0;
  for (int i = 0; i < draws / 4; ++i) {
    const Normals z =
        normals(random_words({42, 1, 2, RandomStream::forward_noise}, static_cast<std::uint32_t>(i)));
    for (const float v : z.value) {
      double power = 1;
      for (double& s : sum) {
        s += power;
        power *= static_cast<double>(v);
      }
    }
    product += static_cast<double>(z.value[0]) * static_cast<double>(z.value[1]) +
               static_cast<double>(z.value[2]) * static_cast<double>(z.value[3]);
  }
  // five standard errors: the variances of z, z^2, z^3, z^4 are 1, 2, 15, 96
  const double bound = 5 / std::sqrt(draws);
  CHECK(std::abs(sum[1] / draws) < bound);
  CHECK(std::abs(sum[2] / draws - 1) < bound * std::sqrt(2.0));
  CHECK(std::abs(sum[3] / draws) < bound * std::sqrt(15.0));
  CHECK(std::abs(sum[4] / draws - 3) < bound * std::sqrt(96.0));
  CHECK(std::abs(product / (draws / 2)) < bound * std::sqrt(2.0));
}

TEST_CASE("the state of a run counts samples and images apart", "[rng]") {
  Rng rng{7};
  const RandomPosition first = rng.next_samples(10, RandomStream::forward_noise);
  const RandomPosition image = rng.next_images(3, RandomStream::initial_noise);
  const RandomPosition second = rng.next_samples(10, RandomStream::forward_noise);
  CHECK((first.seed == 7 && first.sample == 0 && first.step == 0));
  CHECK(first.stream == RandomStream::forward_noise);
  CHECK(second.sample == 10);
  CHECK(image.sample == 0);
  CHECK(rng == Rng{7, 20, 3});
}
