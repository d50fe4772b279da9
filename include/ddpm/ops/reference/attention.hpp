// SPDX-License-Identifier: MIT
// Self-attention by plain loops. Math and parameters: ddpm/ops/attention.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include <ddpm/ops/attention.hpp>

namespace ddpm {

namespace detail::reference {

enum class Part { query, key, value };

// Element (token, channel d) of one head's queries, keys or values.
template <class T>
T& attention_at(T* qkv, const AttentionGeometry& s, Part part, int n, int head, int token, int d) {
  return qkv[(std::int64_t{n} * s.tokens + token) * 3 * s.channels() + static_cast<int>(part) * s.channels() +
             head * s.head_dim + d];
}

// scale * Q K^T for one query: one score per key.
template <class T>
std::vector<double> attention_scores(const T* qkv, const AttentionGeometry& s, double scale, int n, int head,
                                     int query) {
  std::vector<double> scores(static_cast<std::size_t>(s.tokens));
  for (int key = 0; key < s.tokens; ++key) {
    double dot = 0;
    for (int d = 0; d < s.head_dim; ++d)
      dot += static_cast<double>(attention_at(qkv, s, Part::query, n, head, query, d)) *
             static_cast<double>(attention_at(qkv, s, Part::key, n, head, key, d));
    scores[static_cast<std::size_t>(key)] = dot * scale;
  }
  return scores;
}

}  // namespace detail::reference

template <class T>
void launch(const Reference&, const AttentionForward<T>& p) {
  using namespace detail::reference;
  const AttentionGeometry& s = p.shape;
  for (int n = 0; n < s.n; ++n)
    for (int head = 0; head < s.heads; ++head)
      for (int query = 0; query < s.tokens; ++query) {
        const auto scores = attention_scores(p.qkv, s, static_cast<double>(p.scale), n, head, query);
        const double largest = *std::max_element(scores.begin(), scores.end());
        double sum = 0;
        for (const double score : scores) sum += std::exp(score - largest);
        p.logsumexp[(n * s.heads + head) * s.tokens + query] =
            static_cast<Accumulator<T>>(largest + std::log(sum));
        for (int d = 0; d < s.head_dim; ++d) {
          double out = 0;
          for (int key = 0; key < s.tokens; ++key)
            out += std::exp(scores[static_cast<std::size_t>(key)] - largest) / sum *
                   static_cast<double>(attention_at(p.qkv, s, Part::value, n, head, key, d));
          p.out[(std::int64_t{n} * s.tokens + query) * s.channels() + head * s.head_dim + d] =
              static_cast<T>(out);
        }
      }
}

template <class T>
void launch(const Reference&, const AttentionBackward<T>& p) {
  using namespace detail::reference;
  const AttentionGeometry& s = p.shape;
  const std::int64_t size = std::int64_t{s.n} * s.tokens * 3 * s.channels();
  std::vector<double> dqkv(static_cast<std::size_t>(size));
  for (int n = 0; n < s.n; ++n)
    for (int head = 0; head < s.heads; ++head)
      for (int query = 0; query < s.tokens; ++query) {
        const auto scores = attention_scores(p.qkv, s, static_cast<double>(p.scale), n, head, query);
        const double logsumexp = static_cast<double>(p.logsumexp[(n * s.heads + head) * s.tokens + query]);
        const std::int64_t row = (std::int64_t{n} * s.tokens + query) * s.channels() + head * s.head_dim;
        double dot = 0;  // sum over keys of P * dP
        for (int d = 0; d < s.head_dim; ++d)
          dot += static_cast<double>(p.dout[row + d]) * static_cast<double>(p.out[row + d]);
        for (int key = 0; key < s.tokens; ++key) {
          const double weight = std::exp(scores[static_cast<std::size_t>(key)] - logsumexp);
          double dweight = 0;
          for (int d = 0; d < s.head_dim; ++d)
            dweight += static_cast<double>(p.dout[row + d]) *
                       static_cast<double>(attention_at(p.qkv, s, Part::value, n, head, key, d));
          const double dscore = weight * (dweight - dot) * static_cast<double>(p.scale);
          for (int d = 0; d < s.head_dim; ++d) {
            attention_at(dqkv.data(), s, Part::query, n, head, query, d) +=
                dscore * static_cast<double>(attention_at(p.qkv, s, Part::key, n, head, key, d));
            attention_at(dqkv.data(), s, Part::key, n, head, key, d) +=
                dscore * static_cast<double>(attention_at(p.qkv, s, Part::query, n, head, query, d));
            attention_at(dqkv.data(), s, Part::value, n, head, key, d) +=
                weight * static_cast<double>(p.dout[row + d]);
          }
        }
      }
  for (std::int64_t i = 0; i < size; ++i) p.dqkv[i] = static_cast<T>(dqkv[static_cast<std::size_t>(i)]);
}

}  // namespace ddpm
