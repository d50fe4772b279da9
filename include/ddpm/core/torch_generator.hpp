// SPDX-License-Identifier: MIT
// TorchCpuGenerator: the normal numbers of torch.randn on a CPU generator, to reproduce images made from a torch seed.
// Source: the recipe of ATen's CPU generator and normal_fill.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <optional>
#include <random>
#include <span>
#include <utility>

namespace ddpm {

class TorchCpuGenerator {
 public:
  explicit TorchCpuGenerator(std::uint64_t seed) : engine_(static_cast<std::uint32_t>(seed)) {}

  // torch.randn(out.size()), float32, in torch's (N C H W) order.
  void randn(std::span<float> out) {
    if (out.size() < block)
      for (float& value : out) value = static_cast<float>(single());
    else
      fill(out);
  }

 private:
  static constexpr std::size_t block = 16;

  // All uniforms first, then Box-Muller in blocks of 16; a ragged end redraws the last 16.
  void fill(std::span<float> out) {
    for (float& value : out) value = uniform24();
    for (std::size_t i = 0; i + block <= out.size(); i += block) to_normals(out.subspan(i, block));
    if (out.size() % block != 0) {
      const std::span<float> last = out.last(block);
      for (float& value : last) value = uniform24();
      to_normals(last);
    }
  }

  static void to_normals(std::span<float> uniforms) {
    for (std::size_t i = 0; i < block / 2; ++i) {
      const float radius = std::sqrt(-2.0f * std::log(1.0f - uniforms[i]));
      const float angle = 2.0f * std::numbers::pi_v<float> * uniforms[i + block / 2];
      uniforms[i] = radius * std::cos(angle);
      uniforms[i + block / 2] = radius * std::sin(angle);
    }
  }

  // Fewer than 16 numbers are drawn one by one, in double, two from each pair of uniforms.
  double single() {
    if (spare_) return *std::exchange(spare_, std::nullopt);
    const double angle = 2 * std::numbers::pi * uniform53(), radius = std::sqrt(-2 * std::log1p(-uniform53()));
    spare_ = radius * std::sin(angle);
    return radius * std::cos(angle);
  }

  float uniform24() { return static_cast<float>(engine_() & 0xffffffu) * 0x1p-24f; }

  double uniform53() {
    const std::uint64_t high = engine_(), low = engine_();
    return static_cast<double>((high << 32 | low) & ((std::uint64_t{1} << 53) - 1)) * 0x1p-53;
  }

  std::mt19937 engine_;
  std::optional<double> spare_;
};

}  // namespace ddpm
