// SPDX-License-Identifier: MIT
// What the fused kernels need beside isa.hpp's vectors: loads and stores, exp, log, sine and cosine, square
// root, SiLU, and Philox on as many lanes as a register has.
#pragma once

#include <cstdint>
#include <cstring>

#include <ddpm/core/rng.hpp>
#include <ddpm/ops/cpu/isa.hpp>

namespace ddpm::detail::cpu {

template <int Width>
struct IntegersOf;
template <>
struct IntegersOf<4> {
  typedef std::int32_t Int __attribute__((vector_size(16)));
  typedef std::uint32_t Word __attribute__((vector_size(16)));
  typedef std::uint64_t Long __attribute__((vector_size(16)));
};
template <>
struct IntegersOf<8> {
  typedef std::int32_t Int __attribute__((vector_size(32)));
  typedef std::uint32_t Word __attribute__((vector_size(32)));
  typedef std::uint64_t Long __attribute__((vector_size(32)));
};
template <>
struct IntegersOf<16> {
  typedef std::int32_t Int __attribute__((vector_size(64)));
  typedef std::uint32_t Word __attribute__((vector_size(64)));
  typedef std::uint64_t Long __attribute__((vector_size(64)));
};

// As many floats, 32-bit integers and 32-bit words as V has lanes; half as many 64-bit words.
template <class V>
using Floats = typename V::type;
template <class V>
using Ints = typename IntegersOf<V::width>::Int;
template <class V>
using Words = typename IntegersOf<V::width>::Word;
template <class V>
using Longs = typename IntegersOf<V::width>::Long;

template <class To, class From>
[[gnu::always_inline]] inline void reinterpret(To& to, const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  to = __builtin_bit_cast(To, from);
}

// Every lane = value. (`Vector{} + value` of a constant crashes the front end of nvcc 13.0.)
template <class Vector, class T>
[[gnu::always_inline]] inline void broadcast(Vector& v, T value) {
  v = Vector{};
  v += value;
}

template <class Vector, class T>
[[gnu::always_inline]] inline void load(Vector& v, const T* from) {
  std::memcpy(&v, from, sizeof(Vector));
}
template <class Vector, class T>
[[gnu::always_inline]] inline void store(T* to, const Vector& v) {
  std::memcpy(to, &v, sizeof(Vector));
}

// The first `count` lanes, the others zero.
template <class Vector>
[[gnu::always_inline]] inline void load_first(Vector& v, const float* from, std::int64_t count) {
  float lane[sizeof(Vector) / sizeof(float)] = {};
  for (std::int64_t i = 0; i < count; ++i) lane[i] = from[i];
  std::memcpy(&v, lane, sizeof(Vector));
}
template <class Vector>
[[gnu::always_inline]] inline void store_first(float* to, const Vector& v, std::int64_t count) {
  float lane[sizeof(Vector) / sizeof(float)];
  std::memcpy(lane, &v, sizeof(Vector));
  for (std::int64_t i = 0; i < count; ++i) to[i] = lane[i];
}

// How a step of sweep() reads and writes: all lanes, or the first `count` (the others read as zero).
struct AllLanes {
  template <class Vector>
  [[gnu::always_inline]] void load(Vector& v, const float* from) const {
    cpu::load(v, from);
  }
  template <class Vector>
  [[gnu::always_inline]] void store(float* to, const Vector& v) const {
    cpu::store(to, v);
  }
};
struct FirstLanes {
  std::int64_t count;

  template <class Vector>
  [[gnu::always_inline]] void load(Vector& v, const float* from) const {
    load_first(v, from, count);
  }
  template <class Vector>
  [[gnu::always_inline]] void store(float* to, const Vector& v) const {
    store_first(to, v, count);
  }
};

// Calls leaf.step<V>(i, lanes) for i = 0, width, 2 width ... below count.
template <class V, class Leaf>
[[gnu::always_inline]] inline void sweep(Leaf& leaf, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + V::width <= count; i += V::width) leaf.template step<V>(i, AllLanes{});
  if (i < count) leaf.template step<V>(i, FirstLanes{count - i});
}

// Elements per task of a pointwise loop.
constexpr std::int64_t pointwise_grain = 16384;

// The sum of the lanes, in double and in order.
template <class Vector>
[[gnu::always_inline]] inline double sum_of_lanes(const Vector& v) {
  float lane[sizeof(Vector) / sizeof(float)];
  std::memcpy(lane, &v, sizeof(Vector));
  double sum = 0;
  for (const float x : lane) sum += static_cast<double>(x);
  return sum;
}

// exp(x) to 2 ulp; 0 below -87, the largest float above 88.7, NaN of NaN.
template <class V>
[[gnu::always_inline]] inline void exp_lanes(Floats<V>& y, const Floats<V>& input) {
  using F = Floats<V>;
  using I = Ints<V>;
  F lowest, highest;
  broadcast(lowest, -87.33654f);
  broadcast(highest, 88.72283f);
  F x = input < lowest ? lowest : input;
  x = x > highest ? highest : x;
  // 2^n * exp(r), n = round(x / ln 2), |r| <= ln 2 / 2; truncating n + 127 > 0 rounds n down
  const I biased = __builtin_convertvector(x * 1.44269504f + 127.5f, I);
  const F n = __builtin_convertvector(biased, F) - 127.0f;
  F r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  F p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n as 2 * 2^(n - 1): n reaches 128
  F power;
  Words<V> bits;
  reinterpret(bits, biased);
  bits = (bits - 1u) << 23;
  reinterpret(power, bits);
  y = (p * 2.0f) * power;
}

// log(x) to about 1 ulp for normal x > 0.
template <class V>
[[gnu::always_inline]] inline void log_lanes(Floats<V>& y, const Floats<V>& x) {
  using F = Floats<V>;
  using I = Ints<V>;
  I bits;
  reinterpret(bits, x);
  const I exponent = (bits - 0x3f3504f3) >> 23;  // x = 2^exponent * m, m in [sqrt(1/2), sqrt(2))
  const I mantissa = bits - (exponent << 23);
  F m;
  reinterpret(m, mantissa);
  const F e = __builtin_convertvector(exponent, F);
  const F f = m - 1.0f, z = f * f;
  F p = f * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  F r = p * f * z + e * -2.12194440e-4f;
  r = r - z * 0.5f;
  y = (f + r) + e * 0.693359375f;
}

// The sine and cosine of 0 <= x < 100, to about 1e-7.
template <class V>
[[gnu::always_inline]] inline void sincos_lanes(Floats<V>& sine, Floats<V>& cosine, const Floats<V>& x) {
  using F = Floats<V>;
  using I = Ints<V>;
  const I quadrant = __builtin_convertvector(x * 0.636619772f + 0.5f, I);
  const F q = __builtin_convertvector(quadrant, F);
  F r = x - q * 1.5703125f;
  r = r - q * 4.837512969970703125e-4f;
  r = r - q * 7.54978995489188216e-8f;
  const F z = r * r;
  F s = z * -1.9515295891e-4f + 8.3321608736e-3f;
  s = s * z - 1.6666654611e-1f;
  s = s * (z * r) + r;
  F c = z * 2.443315711809948e-5f - 1.388731625493765e-3f;
  c = c * z + 4.166664568298827e-2f;
  c = c * (z * z) - z * 0.5f + 1.0f;
  const I odd = I{} - (quadrant & 1);
  const F first = odd != 0 ? c : s, second = odd != 0 ? s : c;
  sine = (quadrant & 2) != 0 ? -first : first;
  cosine = ((quadrant + 1) & 2) != 0 ? -second : second;
}

// The square root of 0 <= x, to 1 ulp, by Newton's method: the vector extensions have no square root.
template <class V>
[[gnu::always_inline]] inline void sqrt_lanes(Floats<V>& y, const Floats<V>& input) {
  using F = Floats<V>;
  F largest;
  broadcast(largest, 1e38f);
  const F x = input > largest ? largest : input;
  Words<V> bits;
  reinterpret(bits, x);
  const Words<V> guess = 0x5f375a86u - (bits >> 1);
  F r;
  reinterpret(r, guess);
  const F half = x * 0.5f;
  r = r * (1.5f - half * r * r);
  r = r * (1.5f - half * r * r);
  r = r * (1.5f - half * r * r);
  const F s = x * r;
  y = s + (r * 0.5f) * (x - s * s);
}

// x / (1 + exp(-x))
template <class V>
[[gnu::always_inline]] inline void silu_lanes(Floats<V>& y, const Floats<V>& x) {
  Floats<V> e;
  exp_lanes<V>(e, -x);
  y = x / (e + 1.0f);
}

// d silu(x) / dx
template <class V>
[[gnu::always_inline]] inline void silu_slope_lanes(Floats<V>& y, const Floats<V>& x) {
  Floats<V> e;
  exp_lanes<V>(e, -x);
  const Floats<V> s = 1.0f / (e + 1.0f);
  y = s * (x * (1.0f - s) + 1.0f);
}

// The low and high halves of the 64-bit products of `a` with a constant.
template <class V>
[[gnu::always_inline]] inline void multiply_wide(Words<V>& low, Words<V>& high, const Words<V>& a,
                                                 std::uint64_t factor) {
  using L = Longs<V>;
  L both;
  reinterpret(both, a);
  L lower_half;
  broadcast(lower_half, 0xffffffffu);
  const L even = (both & lower_half) * factor, odd = (both >> 32) * factor;
  const L l = (even & lower_half) | (odd << 32), h = (even >> 32) | (odd & ~lower_half);
  reinterpret(low, l);
  reinterpret(high, h);
}

// random_words(at, first_block + lane), word by word.
template <class V>
struct RandomLanes {
  Words<V> word0, word1, word2, word3;

  [[gnu::always_inline]] RandomLanes(const RandomPosition& at, std::uint32_t first_block) {
    using W = Words<V>;
    std::uint32_t block[V::width];
    for (int i = 0; i < V::width; ++i) block[i] = first_block + static_cast<std::uint32_t>(i);
    const std::uint64_t sample = sample_number(at);
    W a, b, c, d;
    load(a, block);
    broadcast(b, static_cast<std::uint32_t>(sample));
    broadcast(c, at.step);
    broadcast(d, static_cast<std::uint32_t>(at.stream) | static_cast<std::uint32_t>(sample >> 32) << 8);
    auto key0 = static_cast<std::uint32_t>(at.seed), key1 = static_cast<std::uint32_t>(at.seed >> 32);
    for (int round = 0; round < 10; ++round) {
      W a_low, a_high, c_low, c_high;
      multiply_wide<V>(a_low, a_high, a, 0xD2511F53u);
      multiply_wide<V>(c_low, c_high, c, 0xCD9E8D57u);
      a = c_high ^ b ^ key0;
      b = c_low;
      c = a_high ^ d ^ key1;
      d = a_low;
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
    word0 = a;
    word1 = b;
    word2 = c;
    word3 = d;
  }
};

// uniform() of core/rng.hpp
template <class V>
[[gnu::always_inline]] inline void uniform_lanes(Floats<V>& y, const Words<V>& word) {
  using F = Floats<V>;
  using I = Ints<V>;
  I upper, lower;  // 16 bits each, so that signed conversions are exact and only the sum rounds
  const Words<V> high = word >> 16, low = word & 0xffffu;
  reinterpret(upper, high);
  reinterpret(lower, low);
  const F value = __builtin_convertvector(upper, F) * 65536.0f + __builtin_convertvector(lower, F);
  y = (value + 0.5f) * 0x1p-32f;
}

// Elements [4 * first_block, 4 * (first_block + blocks)) of the position's stream as words or normals.
struct DrawWords {
  RandomPosition at;
  std::uint32_t first_block;
  int blocks;
  std::uint32_t* out;

  template <class V>
  [[gnu::always_inline]] static void run(const DrawWords& p) {
    for (int b = 0; b < p.blocks; b += V::width) {
      const RandomLanes<V> random(p.at, p.first_block + static_cast<std::uint32_t>(b));
      std::uint32_t lane[4][V::width];
      store(lane[0], random.word0);
      store(lane[1], random.word1);
      store(lane[2], random.word2);
      store(lane[3], random.word3);
      const int count = p.blocks - b < V::width ? p.blocks - b : V::width;
      for (int i = 0; i < count; ++i)
        for (int k = 0; k < 4; ++k) p.out[4 * (b + i) + k] = lane[k][i];
    }
  }
};

// Box-Muller on one pair of words, as normals() of core/rng.hpp.
template <class V>
[[gnu::always_inline]] inline void normal_pair(float* first, float* second, const Words<V>& a,
                                               const Words<V>& b) {
  Floats<V> u, radius, angle, sine, cosine;
  uniform_lanes<V>(u, a);
  log_lanes<V>(u, u);
  sqrt_lanes<V>(radius, u * -2.0f);
  uniform_lanes<V>(angle, b);
  sincos_lanes<V>(sine, cosine, angle * 6.283185307f);
  cosine *= radius;
  sine *= radius;
  store(first, cosine);
  store(second, sine);
}

struct DrawNormals {
  RandomPosition at;
  std::uint32_t first_block;
  int blocks;
  float* out;

  template <class V>
  [[gnu::always_inline]] static void run(const DrawNormals& p) {
    for (int b = 0; b < p.blocks; b += V::width) {
      const RandomLanes<V> random(p.at, p.first_block + static_cast<std::uint32_t>(b));
      float lane[4][V::width];
      normal_pair<V>(lane[0], lane[1], random.word0, random.word1);
      normal_pair<V>(lane[2], lane[3], random.word2, random.word3);
      const int count = p.blocks - b < V::width ? p.blocks - b : V::width;
      for (int i = 0; i < count; ++i)
        for (int k = 0; k < 4; ++k) p.out[4 * (b + i) + k] = lane[k][i];
    }
  }
};

}  // namespace ddpm::detail::cpu
