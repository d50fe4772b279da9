// SPDX-License-Identifier: MIT
// Which vector instructions the host backend uses: found at run time, one source for all of them.
//
// A leaf is a struct with `template <class V> [[gnu::always_inline]] static void run(const Params&)`, written
// with the vectors of V alone. run_leaf() inlines it into one function per instruction set, and those three
// functions are the only ones with a target attribute; so a program needs no -march and no preprocessor, and
// translation units built with different flags agree. In a leaf, and in the always-inline functions that it
// calls, vectors travel by reference only (by value they would have an ABI that depends on the target), and
// there are no lambdas (they would not inherit the target).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string_view>

namespace ddpm::detail::cpu {

enum class Isa { baseline, avx2, avx512 };

// `type` is a register; `memory` is the same where it lies among floats, at any alignment. `tile_rows` is the
// number of rows of the tallest register tile that is two vectors wide: 2 * tile_rows sums, two operands and
// a broadcast fit the 16 (AVX-512: 32) registers.
struct Vector4 {
  typedef float type __attribute__((vector_size(16)));
  struct [[gnu::packed, gnu::may_alias]] memory {
    type value;
  };
  static constexpr int width = 4;
  static constexpr int tile_rows = 6;
};
struct Vector8 {
  typedef float type __attribute__((vector_size(32)));
  struct [[gnu::packed, gnu::may_alias]] memory {
    type value;
  };
  static constexpr int width = 8;
  static constexpr int tile_rows = 6;
};
struct Vector16 {
  typedef float type __attribute__((vector_size(64)));
  struct [[gnu::packed, gnu::may_alias]] memory {
    type value;
  };
  static constexpr int width = 16;
  static constexpr int tile_rows = 12;
};

// The floats at p as one vector, to be read or written through .value.
template <class V>
[[gnu::always_inline]] inline const typename V::memory& vector_at(const float* p) {
  return *reinterpret_cast<const typename V::memory*>(p);
}
template <class V>
[[gnu::always_inline]] inline typename V::memory& vector_at(float* p) {
  return *reinterpret_cast<typename V::memory*>(p);
}

// The best instruction set of this machine, or the lesser one that the environment's DDPM_ISA names.
inline Isa detect_isa() {
  __builtin_cpu_init();
  Isa best = Isa::baseline;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = Isa::avx2;
  if (best == Isa::avx2 && __builtin_cpu_supports("avx512f")) best = Isa::avx512;
  const char* wanted = std::getenv("DDPM_ISA");
  if (wanted && std::string_view(wanted) == "baseline") return Isa::baseline;
  if (wanted && std::string_view(wanted) == "avx2") return std::min(best, Isa::avx2);
  return best;
}

inline std::atomic<Isa>& isa_in_use() {
  static std::atomic<Isa> isa{detect_isa()};
  return isa;
}

inline Isa isa() { return isa_in_use().load(std::memory_order_relaxed); }

// For tests: uses `wanted` from now on, or the best there is below it. Weights prepared before are void.
// Returns what is now in use.
inline Isa pin_isa(Isa wanted) {
  static const Isa best = detect_isa();
  isa_in_use().store(std::min(wanted, best));
  return isa();
}

inline int vector_width() {
  const int widths[] = {Vector4::width, Vector8::width, Vector16::width};
  return widths[static_cast<int>(isa())];
}
inline int tile_rows() { return isa() == Isa::avx512 ? Vector16::tile_rows : Vector8::tile_rows; }
inline int panel_width() { return 2 * vector_width(); }

template <class Leaf, class Params>
[[gnu::noinline]] void run_baseline(const Params& p) {
  Leaf::template run<Vector4>(p);
}
template <class Leaf, class Params>
[[gnu::target("avx2,fma"), gnu::noinline]] void run_avx2(const Params& p) {
  Leaf::template run<Vector8>(p);
}
template <class Leaf, class Params>
[[gnu::target("avx512f,avx2,fma"), gnu::noinline]] void run_avx512(const Params& p) {
  Leaf::template run<Vector16>(p);
}

// Runs a leaf with the instruction set in use.
template <class Leaf, class Params>
void run_leaf(const Params& p) {
  switch (isa()) {
    case Isa::baseline:
      return run_baseline<Leaf>(p);
    case Isa::avx2:
      return run_avx2<Leaf>(p);
    case Isa::avx512:
      return run_avx512<Leaf>(p);
  }
}

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
constexpr int round_up(int a, int b) { return ceil_div(a, b) * b; }

}  // namespace ddpm::detail::cpu
