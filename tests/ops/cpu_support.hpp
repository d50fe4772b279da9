// SPDX-License-Identifier: MIT
// Compares the host backend with Reference: for every instruction set of the machine, and bit by bit for
// several numbers of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <ddpm/core/device.hpp>
#include <ddpm/core/parallel.hpp>
#include <ddpm/ops/cpu/isa.hpp>

#include "catch_shim.hpp"

namespace cpu_support {

using Floats = std::vector<float>;
using Outputs = std::vector<Floats>;  // every tensor that an op has written

// Leaves the pool and the instruction set as they were.
struct Restore {
  int threads = ddpm::ThreadPool::instance().threads();
  ddpm::detail::cpu::Isa isa = ddpm::detail::cpu::isa();
  Restore() = default;
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;
  ~Restore() {
    ddpm::ThreadPool::instance().resize(threads);
    ddpm::detail::cpu::pin_isa(isa);
  }
};

inline std::vector<ddpm::detail::cpu::Isa> isas() {
  using ddpm::detail::cpu::Isa;
  const Restore restore;
  std::vector<Isa> found;
  for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512})
    if (ddpm::detail::cpu::pin_isa(isa) == isa) found.push_back(isa);
  return found;
}

inline Floats uniform(std::size_t count, std::uint32_t seed, float low = -1, float high = 1) {
  std::mt19937 random(seed);
  Floats values(count);
  for (float& v : values) v = low + (high - low) * static_cast<float>(random()) * 0x1p-32f;
  return values;
}

// As T, to nearest even.
template <class T>
std::vector<T> rounded(const Floats& values) {
  return {values.begin(), values.end()};
}

// max |a - b| / max |b|; infinite where the two differ in NaN or infinity.
inline double difference(const Floats& a, const Floats& b) {
  double worst = 0, largest = 0;
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) != std::isnan(b[i]) || std::isinf(a[i]) != std::isinf(b[i]))
      return std::numeric_limits<double>::infinity();
    if (!std::isfinite(a[i])) continue;
    worst = std::max(worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return worst == 0 ? 0 : worst / largest;
}

inline bool same_bits(const Outputs& a, const Outputs& b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i].size() != b[i].size() ||
        (!a[i].empty() && std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(float)) != 0))
      return false;
  return a.size() == b.size();
}

// `op(device)` makes its own copies of what it changes and returns the Outputs.
template <class Op>
void check_against_reference(const std::string& name, const Op& op, double tolerance = 1e-5) {
  const Restore restore;
  const Outputs expected = op(ddpm::Reference{});
  for (const ddpm::detail::cpu::Isa isa : isas()) {
    ddpm::detail::cpu::pin_isa(isa);
    Outputs first;
    for (const int threads : {1, 2, 3, 7}) {
      ddpm::ThreadPool::instance().resize(threads);
      const Outputs got = op(ddpm::Cpu{});
      INFO(name << ", instruction set " << static_cast<int>(isa) << ", " << threads << " threads");
      if (threads > 1) {
        CHECK(same_bits(got, first));
        continue;
      }
      first = got;
      REQUIRE(got.size() == expected.size());
      for (std::size_t i = 0; i < got.size(); ++i) {
        INFO("output " << i);
        CHECK(difference(got[i], expected[i]) <= tolerance);
      }
    }
  }
}

}  // namespace cpu_support
