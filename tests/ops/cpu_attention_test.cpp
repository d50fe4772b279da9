// SPDX-License-Identifier: MIT
#include <ddpm/ops/cpu/attention.hpp>
#include <ddpm/ops/reference/attention.hpp>

#include "cpu_support.hpp"

using namespace ddpm;
using namespace cpu_support;

namespace {

void check_shape(const AttentionGeometry& s, float spread = 1) {
  const auto rows = static_cast<std::size_t>(s.n) * static_cast<std::size_t>(s.tokens);
  const auto channels = static_cast<std::size_t>(s.channels());
  const Floats qkv = uniform(rows * 3 * channels, 1, -spread, spread), dout = uniform(rows * channels, 2);
  const float scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
  const std::string name =
      message("[", s.n, ", ", s.tokens, "], ", s.heads, " heads of ", s.head_dim, ", spread ", spread);
  Outputs saved;
  check_against_reference("forward " + name, [&](const auto& device) {
    Outputs out{Floats(rows * channels), Floats(rows * static_cast<std::size_t>(s.heads))};
    launch(device, AttentionForward<float>{s, qkv.data(), scale, out[0].data(), out[1].data()});
    saved = out;
    return out;
  });
  check_against_reference("backward " + name, [&](const auto& device) {
    Outputs out{Floats(qkv.size(), std::numeric_limits<float>::quiet_NaN())};
    launch(device, AttentionBackward<float>{s, qkv.data(), saved[0].data(), dout.data(), saved[1].data(),
                                            scale, out[0].data()});
    return out;
  });
}

}  // namespace

TEST_CASE("cpu: attention of shapes great and small", "[cpu][attention]") {
  for (const AttentionGeometry& shape : {AttentionGeometry{1, 1, 1, 1},
                                         {2, 1, 3, 5},
                                         {1, 2, 1, 1},
                                         {1, 7, 2, 3},
                                         {2, 16, 4, 8},
                                         {1, 17, 1, 16},
                                         {1, 49, 1, 64},
                                         {2, 64, 2, 32},
                                         {1, 97, 1, 20},
                                         {3, 49, 1, 33},
                                         {1, 101, 3, 48},
                                         {1, 144, 1, 7}})
    check_shape(shape);
}

TEST_CASE("cpu: attention of more than one block of queries", "[cpu][attention]") {
  check_shape({1, 256, 1, 64});
  check_shape({1, 195, 2, 80});
  check_shape({2, 49, 1, 512});
}

TEST_CASE("cpu: attention that is nearly one-hot, or far from zero", "[cpu][attention]") {
  check_shape({1, 33, 2, 16}, 12);
  check_shape({1, 50, 1, 64}, 5);
}
