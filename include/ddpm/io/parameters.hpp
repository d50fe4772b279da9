// SPDX-License-Identifier: MIT
// The parameters of any model to and from safetensors, under diffusers' names and in torch's memory order.
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <ddpm/io/diffusers_folder.hpp>
#include <ddpm/io/safetensors.hpp>
#include <ddpm/nn/parameter.hpp>

namespace ddpm::io {

namespace detail {

// Convolution weights are [O, K, K, I] here and [O, I, K, K] in torch; every other parameter is the same in
// both.
inline std::vector<std::int64_t> torch_shape(const Shape& shape) {
  if (shape.rank() == 4) return {shape[0], shape[3], shape[1], shape[2]};
  std::vector<std::int64_t> same;
  for (int axis = 0; axis < shape.rank(); ++axis) same.push_back(shape[axis]);
  return same;
}

enum class Direction { from_torch, to_torch };

template <class T>
std::vector<T> reorder(const std::vector<T>& values, const Shape& shape, Direction direction) {
  if (shape.rank() != 4) return values;
  const auto taps = static_cast<std::size_t>(shape[1] * shape[2]), in = static_cast<std::size_t>(shape[3]);
  std::vector<T> out(values.size());
  for (std::size_t o = 0; o < static_cast<std::size_t>(shape[0]); ++o)
    for (std::size_t tap = 0; tap < taps; ++tap)
      for (std::size_t i = 0; i < in; ++i) {
        const std::size_t ours = (o * taps + tap) * in + i, theirs = (o * in + i) * taps + tap;
        if (direction == Direction::from_torch)
          out[ours] = values[theirs];
        else
          out[theirs] = values[ours];
      }
  return out;
}

inline std::string shown_shape(const std::vector<std::int64_t>& shape) {
  std::ostringstream out;
  out << '[';
  for (std::size_t i = 0; i < shape.size(); ++i) out << (i ? ", " : "") << shape[i];
  out << ']';
  return out.str();
}

// Up to three of the names, and how many more there are.
inline std::string some_of(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), 3); ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > 3) text += message(" and ", names.size() - 3, " more");
  return text;
}

// Old attention weights are 1x1 convolutions [C, C, 1, 1] of the same numbers.
inline bool fits(std::vector<std::int64_t> stored, const std::vector<std::int64_t>& expected) {
  while (stored.size() > expected.size() && stored.back() == 1) stored.pop_back();
  return stored == expected;
}

}  // namespace detail

// Fills every parameter of the model from the file, or throws one IoError that lists all tensors that are
// missing, have no place in the model, or have another shape; then the model is unchanged.
template <class M>
void load_parameters(const SafeTensors& file, M& model) {
  std::map<std::string, std::string> stored;  // canonical name -> name in the file
  for (const std::string& name : file.names()) stored[canonical_name(name)] = name;
  std::vector<std::string> missing, misshapen;
  model.visit("", [&](const std::string& name, const auto& parameter) {
    const auto found = stored.find(name);
    if (found == stored.end()) return missing.push_back(name);
    const auto expected = detail::torch_shape(parameter.shape());
    const auto& shape = file.tensor(found->second).shape;
    if (!detail::fits(shape, expected))
      misshapen.push_back(name + " " + detail::shown_shape(shape) + " for " + detail::shown_shape(expected));
  });
  std::set<std::string> known;
  model.visit("", [&](const std::string& name, const auto&) { known.insert(name); });
  std::vector<std::string> extra;
  for (const auto& [name, original] : stored)
    if (!known.contains(name)) extra.push_back(original);
  if (!missing.empty() || !extra.empty() || !misshapen.empty()) {
    std::string found = message(file.names().size(), " tensors");
    if (!missing.empty()) found += message(", ", missing.size(), " missing (", detail::some_of(missing), ")");
    if (!extra.empty()) found += message(", ", extra.size(), " unknown (", detail::some_of(extra), ")");
    if (!misshapen.empty())
      found += message(", ", misshapen.size(), " misshapen (", detail::some_of(misshapen), ")");
    detail::fail(file.path(), found, message("the ", known.size(), " of the model"));
  }
  model.visit("", [&](const std::string& name, const auto& parameter) {
    using Real = typename std::remove_cvref_t<decltype(parameter.value())>::value_type;
    const auto values = file.as<Real>(stored.at(name));
    parameter.value().upload(detail::reorder(values, parameter.shape(), detail::Direction::from_torch));
    parameter.changed();
  });
}

// Writes every parameter of the model to one safetensors file.
template <class M>
void save_parameters(const std::filesystem::path& path, const M& model,
                     std::map<std::string, std::string> metadata = {}) {
  std::vector<std::vector<Accumulator<typename M::value_type>>> values;
  std::vector<TensorToWrite> tensors;
  model.visit("", [&](const std::string& name, const auto& parameter) {
    values.push_back(
        detail::reorder(parameter.value().to_host(), parameter.shape(), detail::Direction::to_torch));
    tensors.push_back({name, dtype_of<Accumulator<typename M::value_type>>(),
                       detail::torch_shape(parameter.shape()), values.back().data()});
  });
  metadata.emplace("format", "pt");  // what diffusers looks for
  write_safetensors(path, tensors, metadata);
}

}  // namespace ddpm::io
