// SPDX-License-Identifier: MIT
// Attention, forward and backward: kernels against Reference, and the traffic of their main loops.
#include <ddpm/ops/reference/attention.hpp>

#include <array>

#include "attention_kernels.hpp"
#include "op_test.hpp"

using namespace ddpm;
using namespace ddpm::simt;

namespace {

constexpr double tolerance = 1e-5;

struct Case {
  AttentionGeometry shape;
  std::array<std::size_t, 4> offset = {};  // of qkv, out, dout and dqkv, in elements
  float scale = 0.3f;

  std::size_t rows() const { return static_cast<std::size_t>(shape.n * shape.heads * shape.tokens); }
  std::size_t count() const { return rows() * static_cast<std::size_t>(shape.head_dim); }
};

template <class T>
struct Attention {
  Attention(const Case& c, std::vector<T> values)
      : shape(c.shape),
        scale(c.scale),
        qkv(std::move(values), c.offset[0]),
        out(std::vector<T>(c.count()), c.offset[1]),
        logsumexp(std::vector<float>(c.rows())),
        dout(normal_values<T>(c.count(), 2), c.offset[2]),
        dqkv(std::vector<T>(3 * c.count()), c.offset[3]) {}

  AttentionForward<T> forward(auto at) { return {shape, at(qkv), scale, at(out), at(logsumexp)}; }
  AttentionBackward<T> backward(auto at) {
    return {shape, at(qkv), at(out), at(dout), at(logsumexp), scale, at(dqkv)};
  }

  AttentionGeometry shape;
  float scale;
  Operand<T> qkv, out;
  Operand<float> logsumexp;
  Operand<T> dout, dqkv;
};

template <class T>
void upload_host_values(Operand<T>& operand) {
  CudaSim{}.upload(operand.device(), operand.host(), operand.size() * sizeof(T));
}

template <class T>
void check_attention(const Case& c, std::vector<T> qkv) {
  INFO("n " << c.shape.n << ", tokens " << c.shape.tokens << ", heads " << c.shape.heads << ", head dim "
            << c.shape.head_dim << ", bytes " << sizeof(T));
  Attention<T> a(c, std::move(qkv));
  launch(Reference{}, a.forward(on_host));
  simt::kernels::run(a.forward(on_device));
  CHECK(error_of(a.out) < tolerance);
  CHECK(error_of(a.logsumexp) < tolerance);

  // Both backward passes read what Reference computed forward.
  upload_host_values(a.out);
  upload_host_values(a.logsumexp);
  launch(Reference{}, a.backward(on_host));
  simt::kernels::run(a.backward(on_device));
  CHECK(error_of(a.dqkv) < tolerance);
}

template <class T>
void check_attention(const Case& c) {
  check_attention<T>(c, normal_values<T>(3 * c.count(), 1));
}

// Whole numbers, so that the scores, of about `sign` * 5000, are exact: queries near 24, keys near sign * 24.
template <class T>
std::vector<T> large_values(const Case& c, float sign) {
  std::vector<T> values = normal_values<T>(3 * c.count(), 3);
  const int channels = c.shape.channels();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int part = static_cast<int>(i) / channels % 3;
    const float whole = 24 + std::round(static_cast<float>(values[i]));
    if (part < 2) values[i] = static_cast<T>(part == 0 ? whole : sign * whole);
  }
  return values;
}

const Counters& counters() { return Executor::instance().counters(); }

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
          simt::kernels::run(a.forward(on_device));
          simt::kernels::run(a.backward(on_device));
        },
        a.out, a.logsumexp, a.dqkv);
  }
}

TEMPLATE_TEST_CASE("attention reads whole sectors and has no bank conflicts", "", float, bf16) {
  for (const AttentionGeometry& shape : {AttentionGeometry{1, 64, 1, 64}, {1, 64, 1, 128}}) {
    Attention<TestType> a({shape}, normal_values<TestType>(3 * std::size_t{64} * 128, 1));
    const auto check_traffic = [] {
      CHECK(counters().shared_loads.bank_conflicts == 0);
      CHECK(counters().shared_stores.bank_conflicts == 0);
      if (counters().has_scalar_accesses) return;  // of which logsumexp's are not whole sectors
      CHECK(counters().global_loads.sectors * sector_bytes == counters().global_loads.bytes);
      CHECK(counters().global_stores.sectors * sector_bytes == counters().global_stores.bytes);
    };
    simt::kernels::run(a.forward(on_device));
    check_traffic();
    simt::kernels::run(a.backward(on_device));
    check_traffic();
  }
}
