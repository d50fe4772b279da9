// SPDX-License-Identifier: MIT
// Attention, forward and backward: kernels against Reference, and the traffic of their main loops.
#include "attention_kernels.hpp"
#include "attention_problem.hpp"

using namespace ddpm;
using namespace ddpm::simt;

namespace {

constexpr double tolerance = 1e-5;

using Case = AttentionCase;

constexpr auto on_general_cores = [](const auto& params) { simt::kernels::run_on_general_cores(params); };

template <class T>
void check_attention(const Case& c, std::vector<T> qkv) {
  Attention<T> a(c, std::move(qkv));
  simt::check_attention(a, on_general_cores, tolerance);
}

template <class T>
void check_attention(const Case& c) {
  check_attention<T>(c, normal_values<T>(3 * c.count(), 1));
}

}  // namespace

TEMPLATE_TEST_CASE("attention over few tokens and channels", "", float, bf16) {
  check_attention<TestType>({{1, 1, 1, 1}});
  check_attention<TestType>({{2, 1, 3, 5}});
  check_attention<TestType>({{2, 7, 2, 3}});
  check_attention<TestType>({{1, 13, 4, 8}});
}

TEMPLATE_TEST_CASE("attention with an operand that is not aligned", "", float, bf16) {
  check_attention<TestType>({{1, 3, 2, 8}, {1, 0, 0, 0}});
  check_attention<TestType>({{1, 3, 2, 8}, {0, 1, 0, 0}});
  check_attention<TestType>({{1, 3, 2, 8}, {0, 0, 1, 0}});
  check_attention<TestType>({{1, 3, 2, 8}, {0, 0, 0, 1}});
}

TEMPLATE_TEST_CASE("attention over several tiles of tokens", "", float, bf16) {
  check_attention<TestType>({{1, 64, 1, 4}});
  check_attention<TestType>({{1, 67, 2, 3}});
  check_attention<TestType>({{1, 131, 1, 8}});
}

TEMPLATE_TEST_CASE("attention with heads of several slices and several results", "", float, bf16) {
  check_attention<TestType>({{1, 5, 2, 33}});
  check_attention<TestType>({{1, 18, 1, 64}});
  check_attention<TestType>({{1, 3, 2, 71}});
  check_attention<TestType>({{1, 5, 1, 257}});
  check_attention<TestType>({{1, 3, 1, 260}});
  check_attention<TestType>({{1, 66, 1, 68}});
}

TEMPLATE_TEST_CASE("attention with scores that exp cannot take", "", float, bf16) {
  for (const float sign : {1.0f, -1.0f}) {
    const Case c{{1, 67, 1, 8}, {}, 1.0f};
    check_attention<TestType>(c, large_values<TestType>(c, sign));
  }
}

TEMPLATE_TEST_CASE("attention has the same bits under every schedule", "", float, bf16) {
  for (const Case& c : {Case{{1, 67, 2, 3}}, {{1, 18, 1, 68}}}) {
    Attention<TestType> a(c, normal_values<TestType>(3 * c.count(), 1));
    run_everywhere_alike(
        [&] {
          on_general_cores(a.forward(on_device));
          on_general_cores(a.backward(on_device));
        },
        a.out, a.logsumexp, a.dqkv);
  }
}

TEMPLATE_TEST_CASE("attention reads whole sectors and has no bank conflicts", "[executor]", float, bf16) {
  for (const AttentionGeometry& shape : {AttentionGeometry{1, 64, 1, 64}, {1, 64, 1, 128}}) {
    Attention<TestType> a({shape}, normal_values<TestType>(3 * std::size_t{64} * 128, 1));
    const auto check_traffic = [] {
      CHECK(counters().shared_loads.bank_conflicts == 0);
      CHECK(counters().shared_stores.bank_conflicts == 0);
      if (counters().has_scalar_accesses) return;  // of which logsumexp's are not whole sectors
      CHECK(counters().global_loads.sectors * sector_bytes == counters().global_loads.bytes);
      CHECK(counters().global_stores.sectors * sector_bytes == counters().global_stores.bytes);
    };
    on_general_cores(a.forward(on_device));
    check_traffic();
    on_general_cores(a.backward(on_device));
    check_traffic();
  }
}
