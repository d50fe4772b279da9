// SPDX-License-Identifier: MIT
// Philox 4x32-10, the counter-based generator behind every random number of the library.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <utility>

#include <ddpm/core/dtype.hpp>

namespace ddpm {

struct PhiloxWords {
  std::uint32_t word[4];
};

DDPM_HOST_DEVICE inline constexpr PhiloxWords philox4x32_10(PhiloxWords counter, std::uint32_t key0,
                                                            std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * counter.word[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(b >> 32) ^ counter.word[1] ^ key0, static_cast<std::uint32_t>(b),
                static_cast<std::uint32_t>(a >> 32) ^ counter.word[3] ^ key1, static_cast<std::uint32_t>(a)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// What a number is drawn for. Streams never overlap, so using one more or less of one leaves the others
// unchanged.
enum class RandomStream : std::uint32_t {
  parameter_init,
  shuffle,
  flip,
  timestep,
  forward_noise,
  dropout,
  initial_noise,  // x_T
  sampler_noise,  // z of the reverse steps
};

// The place of a draw: which sample of the run, which step (of the sampler; which layer, for dropout), which
// stream. So a sample's noise does not depend on batch size, order, or the number of threads or devices.
struct RandomPosition {
  std::uint64_t seed;
  std::uint64_t sample;
  std::uint32_t step;
  RandomStream stream;
  const std::uint64_t* origin = nullptr;  // of samples, on the device: for work that is recorded; null: 0
};

// The number in the run, where `origin` can be read.
DDPM_HOST_DEVICE inline constexpr std::uint64_t sample_number(const RandomPosition& at) {
  return at.origin ? *at.origin + at.sample : at.sample;
}

// Four random words for elements 4 * block to 4 * block + 3 of the sample, counted in N H W C order.
DDPM_HOST_DEVICE inline constexpr PhiloxWords random_words(const RandomPosition& at, std::uint32_t block) {
  const std::uint64_t sample = sample_number(at);
  const auto high = static_cast<std::uint32_t>(sample >> 32);
  return philox4x32_10({{block, static_cast<std::uint32_t>(sample), at.step,
                         static_cast<std::uint32_t>(at.stream) | high << 8}},
                       static_cast<std::uint32_t>(at.seed), static_cast<std::uint32_t>(at.seed >> 32));
}

// Uniform on (0, 1]: never 0, so its logarithm is finite.
DDPM_HOST_DEVICE inline constexpr float uniform(std::uint32_t word) {
  return (static_cast<float>(word) + 0.5f) * 0x1p-32f;
}

// Uniform on {0, ..., bound - 1}.
DDPM_HOST_DEVICE inline constexpr std::uint32_t uniform_below(std::uint32_t word, std::uint32_t bound) {
  return static_cast<std::uint32_t>(std::uint64_t{word} * bound >> 32);
}

struct Normals {
  float value[4];
};

// Four independent standard normals (Box-Muller on two pairs of words).
DDPM_HOST_DEVICE inline Normals normals(const PhiloxWords& words) {
  Normals out{};
  for (int pair = 0; pair < 2; ++pair) {
    const float radius = std::sqrt(-2.0f * std::log(uniform(words.word[2 * pair])));
    const float angle = 6.283185307f * uniform(words.word[2 * pair + 1]);
    out.value[2 * pair] = radius * std::cos(angle);
    out.value[2 * pair + 1] = radius * std::sin(angle);
  }
  return out;
}

// The random state of a run: a seed and how many training samples and generated images have drawn from it.
// Copying it copies the run; saving its three numbers saves the state exactly.
struct Rng {
  std::uint64_t seed = 0;
  std::uint64_t samples = 0;  // training samples seen
  std::uint64_t images = 0;   // images generated; apart, so that previews do not change the training

  // The position of the first of `count` new training samples (or images): sample i of them is at .sample +
  // i.
  RandomPosition next_samples(std::int64_t count, RandomStream stream) {
    return {seed, std::exchange(samples, samples + static_cast<std::uint64_t>(count)), 0, stream};
  }
  RandomPosition next_images(std::int64_t count, RandomStream stream) {
    return {seed, std::exchange(images, images + static_cast<std::uint64_t>(count)), 0, stream};
  }

  friend bool operator==(const Rng&, const Rng&) = default;
};

}  // namespace ddpm
