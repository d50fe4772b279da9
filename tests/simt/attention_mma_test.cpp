// SPDX-License-Identifier: MIT
// Attention of bf16 on tensor cores: kernels against Reference, and what they ask of memory.
#include "attention_kernels.hpp"
#include "attention_problem.hpp"

using namespace ddpm;
using namespace ddpm::simt;

namespace {

constexpr double tolerance = 4e-3;  // of weights that are rounded to bf16

constexpr auto on_tensor_cores = [](const auto& params) { simt::kernels::run_on_tensor_cores(params); };

Attention<bf16> attention(const AttentionCase& c) { return {c, normal_values<bf16>(3 * c.count(), 1)}; }

void check_one(const AttentionCase& c) {
  Attention<bf16> a = attention(c);
  check_attention(a, on_tensor_cores, tolerance);
}

// The kernels' tiles: tokens of a block, channels of its result, tokens and channels of a slice.
struct Tiles {
  explicit Tiles(const AttentionGeometry& s)
      : rows(s.head_dim > 256 ? 32 : 64), columns(s.head_dim > 64 ? 256 : 64) {}

  std::int64_t blocks(const AttentionGeometry& s) const {
    return std::int64_t{s.n} * s.heads * count(s.tokens, rows) * count(s.head_dim, columns);
  }
  // That a block copies, where all are whole.
  std::int64_t copied_bytes(const AttentionGeometry& s, int products) const {
    return std::int64_t{2} *
           (products * s.head_dim * (rows + s.tokens) + s.tokens * std::min(s.head_dim, columns));
  }
  // mma.sync of a block, 32 for each slice and 16 tokens.
  std::int64_t matrix_instructions(const AttentionGeometry& s, int products) const {
    const int slices = products * count(s.head_dim, slice) + count(std::min(s.head_dim, columns), slice);
    return std::int64_t{32} * (rows / 16) * count(s.tokens, slice) * slices;
  }

  static int count(int size, int of) { return (size + of - 1) / of; }
  static constexpr int slice = 64;
  int rows, columns;
};

}  // namespace

TEST_CASE("tensor cores compute attention over few tokens") {
  check_one({{1, 1, 1, 8}});
  check_one({{2, 1, 3, 16}});
  check_one({{2, 7, 3, 8}});
  check_one({{1, 13, 2, 40}});
  check_one({{1, 16, 1, 256}, {}, 0.0625f});
  check_one({{1, 11, 1, 24}, {}, -0.3f});
  check_one({{1, 11, 1, 24}, {}, 0.0f});
}

TEST_CASE("tensor cores compute attention over several tiles of tokens") {
  check_one({{1, 64, 1, 64}});
  check_one({{1, 65, 3, 40}});
  check_one({{2, 67, 1, 72}});
  check_one({{1, 256, 1, 16}});
  check_one({{1, 65, 1, 256}, {}, 0.0625f});
}

TEST_CASE("tensor cores compute attention of heads whose result is of several blocks") {
  check_one({{1, 33, 1, 264}});
  check_one({{1, 35, 1, 320}, {}, 0.06f});
  check_one({{1, 5, 2, 512}, {}, 0.04f});
}

TEST_CASE("tensor cores compute attention with scores that exp cannot take") {
  for (const float sign : {1.0f, -1.0f}) {
    const AttentionCase c{{1, 67, 1, 8}, {}, 1.0f};
    Attention<bf16> a(c, large_values<bf16>(c, sign));
    check_attention(a, on_tensor_cores, tolerance);
  }
}

TEST_CASE("what is not a number reaches only its own head on tensor cores") {
  const AttentionCase c{{2, 5, 3, 40}};
  Attention<bf16> a = attention(c), clean = attention(c);
  for (Attention<bf16>* each : {&a, &clean}) launch(Reference{}, each->forward(on_host));
  // The rows of every head but the second of the first sample.
  const auto is_clean = [&](std::size_t i, std::size_t row) { return i / row < 5 && i % row / 40 % 3 == 1; };
  const auto spoil = [&](Operand<bf16>& operand, std::size_t row) {
    std::vector<bf16> values = operand.device_values();
    for (std::size_t i = 0; i < values.size(); ++i)
      if (!is_clean(i, row)) values[i] = bf16(NAN);
    CudaSim{}.upload(operand.device(), values.data(), values.size() * sizeof(bf16));
  };
  for (Attention<bf16>* each : {&a, &clean}) {
    upload_host_values(each->out);
    upload_host_values(each->logsumexp);
  }
  spoil(a.qkv, 360);
  spoil(a.dout, 120);
  on_tensor_cores(a.backward(on_device));
  on_tensor_cores(a.forward(on_device));
  on_tensor_cores(clean.backward(on_device));
  on_tensor_cores(clean.forward(on_device));
  const auto check_alike = [&](const Operand<bf16>& spoilt, const Operand<bf16>& expected, std::size_t row) {
    const std::vector<bf16> values = spoilt.device_values(), wanted = expected.device_values();
    for (std::size_t i = 0; i < values.size(); ++i)
      CHECK((values[i].bits == wanted[i].bits) == is_clean(i, row));
  };
  check_alike(a.out, clean.out, 120);
  check_alike(a.dqkv, clean.dqkv, 360);
}

TEST_CASE("tensor cores give attention the same bits under every schedule") {
  for (const AttentionCase& c : {AttentionCase{{1, 65, 1, 16}}, {{1, 65, 1, 72}}, {{1, 33, 1, 264}}}) {
    Attention<bf16> a = attention(c);
    run_everywhere_alike(
        [&] {
          on_tensor_cores(a.forward(on_device));
          on_tensor_cores(a.backward(on_device));
        },
        a.out, a.logsumexp, a.dqkv);
  }
}

TEST_CASE("tensor cores are used for attention where they can be", "[executor]") {
  const auto is_on_tensor_cores = [](auto run) {
    Executor::instance().sum = {};
    run();
    return Executor::instance().sum.matrix_instructions > 0;
  };
  const auto check_use = [&](const AttentionCase& c, bool forward, bool backward) {
    INFO("head dim " << c.shape.head_dim);
    Attention<bf16> a = attention(c);
    const auto check_pass = [&](const auto& params, bool expected) {
      CHECK(is_on_tensor_cores([&] { simt::kernels::run(params); }) == expected);
      CHECK_FALSE(is_on_tensor_cores([&] { simt::kernels::run_on_general_cores(params); }));
      if (expected)
        CHECK(is_on_tensor_cores([&] { on_tensor_cores(params); }));
      else
        CHECK_THROWS_AS(on_tensor_cores(params), ConfigError);
    };
    check_pass(a.forward(on_device), forward);
    check_pass(a.backward(on_device), backward);
  };
  check_use({{1, 1, 1, 8}}, true, true);
  check_use({{1, 1, 1, 512}}, true, true);
  check_use({{1, 1, 2, 4}}, false, false);
  check_use({{1, 1, 1, 12}}, false, false);
  check_use({{1, 1, 1, 520}}, false, false);
  check_use({{1, 1, 1, 8}, {4, 0, 0, 0}}, false, false);
  check_use({{1, 1, 1, 8}, {0, 4, 0, 0}}, false, true);
  check_use({{1, 1, 1, 8}, {0, 0, 4, 0}}, true, false);
  check_use({{1, 1, 1, 8}, {0, 0, 0, 4}}, true, false);
  Attention<float> of_floats({{1, 1, 1, 8}}, normal_values<float>(24, 1));
  CHECK_THROWS_AS(on_tensor_cores(of_floats.forward(on_device)), ConfigError);
}

TEST_CASE("tensor cores multiply for attention what they must and meet no bank conflicts", "[executor]") {
  for (const AttentionGeometry& s : {AttentionGeometry{1, 128, 1, 64}, {1, 64, 2, 256}, {1, 64, 1, 512}}) {
    INFO("head dim " << s.head_dim);
    const Tiles tiles(s);
    Attention<bf16> a = attention({s});
    const auto check_conflicts = [](const Counters& c) {
      CHECK(c.shared_loads.bank_conflicts == 0);
      CHECK(c.shared_stores.bank_conflicts == 0);
    };
    on_tensor_cores(a.forward(on_device));
    CHECK(counters().matrix_instructions == tiles.blocks(s) * tiles.matrix_instructions(s, 1));
    check_conflicts(counters());
    if (!counters().has_scalar_accesses) {  // of logsumexp
      CHECK(counters().global_loads.bytes == tiles.blocks(s) * tiles.copied_bytes(s, 1));
      CHECK(counters().global_loads.sectors * sector_bytes == counters().global_loads.bytes);
      CHECK(counters().global_stores.sectors * sector_bytes == counters().global_stores.bytes);
      CHECK(counters().global_stores.requests * 32 * 16 == counters().global_stores.bytes);
    }
    Executor::instance().sum = {};
    on_tensor_cores(a.backward(on_device));
    const std::int64_t of_block = 2 * tiles.matrix_instructions(s, 2) + tiles.matrix_instructions(s, 1);
    CHECK(Executor::instance().sum.matrix_instructions == tiles.blocks(s) * of_block);
    check_conflicts(Executor::instance().sum);
  }
}
