// SPDX-License-Identifier: MIT
// Attention with all of its operands, for tests of kernels against Reference.
#pragma once

#include <ddpm/ops/reference/attention.hpp>

#include <array>

#include "op_test.hpp"

namespace ddpm::simt {

inline const Counters& counters() { return Executor::instance().counters(); }

struct AttentionCase {
  AttentionGeometry shape;
  std::array<std::size_t, 4> offset = {};  // of qkv, out, dout and dqkv, in elements
  float scale = 0.3f;

  std::size_t rows() const { return static_cast<std::size_t>(shape.n * shape.heads * shape.tokens); }
  std::size_t count() const { return rows() * static_cast<std::size_t>(shape.head_dim); }
};

template <class T>
struct Attention {
  Attention(const AttentionCase& c, std::vector<T> values)
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

// Both passes by run(params), which computes them on the device, against Reference.
template <class T>
void check_attention(Attention<T>& a, auto run, double tolerance) {
  INFO("n " << a.shape.n << ", tokens " << a.shape.tokens << ", heads " << a.shape.heads << ", head dim "
            << a.shape.head_dim << ", scale " << a.scale << ", bytes " << sizeof(T));
  launch(Reference{}, a.forward(on_host));
  run(a.forward(on_device));
  CHECK(error_of(a.out) < tolerance);
  CHECK(error_of(a.logsumexp) < 1e-5);

  // Both backward passes read what Reference computed forward.
  upload_host_values(a.out);
  upload_host_values(a.logsumexp);
  launch(Reference{}, a.backward(on_host));
  run(a.backward(on_device));
  CHECK(error_of(a.dqkv) < tolerance);
}

// Whole numbers, so that the scores, of about `sign` * 5000, are exact: queries near 24, keys near sign * 24.
template <class T>
std::vector<T> large_values(const AttentionCase& c, float sign) {
  std::vector<T> values = normal_values<T>(3 * c.count(), 3);
  const int channels = c.shape.channels();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int part = static_cast<int>(i) / channels % 3;
    const float whole = 24 + std::round(static_cast<float>(values[i]));
    if (part < 2) values[i] = static_cast<T>(part == 0 ? whole : sign * whole);
  }
  return values;
}

}  // namespace ddpm::simt
