// SPDX-License-Identifier: MIT
// The parameters of any model to and from files, under diffusers' names and in torch's memory order.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <ddpm/io/diffusers_folder.hpp>
#include <ddpm/io/safetensors.hpp>
#include <ddpm/io/tensor_set.hpp>
#include <ddpm/nn/parameter.hpp>

namespace ddpm::io {

namespace detail {

// Convolution weights are [O, K, K, I] here and [O, I, K, K] in torch; every other parameter is the same in
// both.
inline std::vector<std::int64_t> torch_shape(const Shape& shape) {
  if (shape.rank() == 4) return {shape[0], shape[3], shape[1], shape[2]};
  std::vector<std::int64_t> same;
  same.reserve(static_cast<std::size_t>(shape.rank()));
  for (int axis = 0; axis < shape.rank(); ++axis) same.push_back(shape[axis]);
  return same;
}

enum class Direction { from_torch, to_torch };

// The elements of a parameter of `shape` that lies in torch's order, in ours, or the other way round.
inline Layout reordered(const Shape& shape, Direction direction) {
  if (shape.rank() != 4) return Layout::flat(shape.numel());
  const std::int64_t o = shape[0], h = shape[1], w = shape[2], i = shape[3];
  if (direction == Direction::from_torch) return {{o, h, w, i}, {i * h * w, w, 1, h * w}};
  return {{o, i, h, w}, {h * w * i, 1, w * i, i}};
}

template <class T>
std::vector<T> reorder(const std::vector<T>& values, const Shape& shape, Direction direction) {
  std::vector<T> out(values.size());
  gather<T>(std::as_bytes(std::span(values)).data(), reordered(shape, direction), out.data());
  return out;
}

// The elements of a stored tensor in the order of a parameter of that shape.
inline Layout parameter_layout(const StoredTensor& tensor, const Shape& shape) {
  if (tensor.strides.empty()) return reordered(shape, Direction::from_torch);
  const Layout torch = layout_of(tensor);
  if (shape.rank() != 4) return torch;
  const auto [o, i, h, w] = torch.extent;
  const auto [so, si, sh, sw] = torch.stride;
  return {{o, h, w, i}, {so, sh, sw, si}};
}

// Old attention weights are 1x1 convolutions [C, C, 1, 1] of the same numbers.
inline bool fits(std::vector<std::int64_t> stored, const std::vector<std::int64_t>& expected) {
  while (stored.size() > expected.size() && stored.back() == 1) stored.pop_back();
  return stored == expected;
}

inline std::string shown_shape(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

// ", 12 missing (a, b, c and 9 more)", or nothing.
inline std::string counted(const std::vector<std::string>& names, const char* what) {
  constexpr std::size_t most = 3;
  if (names.empty()) return "";
  std::string text = message(", ", names.size(), " ", what, " (");
  for (std::size_t i = 0; i < std::min(names.size(), most); ++i) text += (i > 0 ? ", " : "") + names[i];
  return text + (names.size() > most ? message(" and ", names.size() - most, " more)") : ")");
}

// For every parameter of the model the tensor of that name, old names included. Throws one IoError that lists
// all tensors that are missing, that have no place in the model, or that do not fit theirs.
template <class M>
std::map<std::string, const StoredTensor*> match_parameters(const TensorSet& set, const M& model) {
  std::map<std::string, const StoredTensor*> matched;
  std::map<std::string, std::string> stored;  // name in the model -> name in the file
  std::vector<std::string> missing, extra, misfits;
  for (const std::string& name : set.names())
    if (!stored.emplace(canonical_name(name), name).second) extra.push_back(in_quotes(name));
  model.visit("", [&](const std::string& name, const auto& parameter) {
    const auto found = stored.find(name);
    if (found == stored.end()) return missing.push_back(name);
    const StoredTensor& tensor = set.tensor(found->second);
    const auto expected = torch_shape(parameter.shape());
    if (!is_floating_point(tensor.dtype) || !fits(tensor.shape, expected))
      misfits.push_back(message(name, " ", name_of(tensor.dtype), " ", shown_shape(tensor.shape), " for ",
                                shown_shape(expected)));
    matched.emplace(name, &tensor);
  });
  for (const auto& [name, original] : stored)
    if (!matched.contains(name)) extra.push_back(in_quotes(original));
  if (!missing.empty() || !extra.empty() || !misfits.empty())
    fail(set.path(),
         message(set.names().size(), " tensors", counted(missing, "missing"), counted(extra, "unknown"),
                 counted(misfits, "misshapen")),
         message("the ", matched.size() + missing.size(), " of the model"));
  return matched;
}

// The header of a file of all parameters, then they themselves, one at a time.
template <class M>
void write_parameters(FileWriter& writer, const M& model, std::map<std::string, std::string> metadata) {
  using Real = Accumulator<typename M::value_type>;
  std::vector<HeaderEntry> entries;
  std::size_t offset = 0;
  model.visit("", [&](const std::string& name, const auto& parameter) {
    const std::size_t size = parameter.value().bytes();
    entries.push_back({name, dtype_of<Real>(), torch_shape(parameter.shape()), offset, offset + size});
    offset += size;
  });
  metadata.emplace("format", "pt");  // what diffusers looks for
  writer.write(format_safetensors_header(entries, metadata, writer.path()));
  model.visit("", [&](const std::string&, const auto& parameter) {
    const std::vector<Real> values =
        reorder(parameter.value().to_host(), parameter.shape(), Direction::to_torch);
    writer.write(values.data(), values.size() * sizeof(Real));
  });
}

}  // namespace detail

// Fills every parameter of the model, or throws one IoError that lists all tensors that are missing, that
// have no place in the model, or that do not fit theirs; then the model is unchanged.
template <class M>
void load_parameters(const TensorSet& set, M& model) {
  const auto matched = detail::match_parameters(set, model);
  model.visit("", [&](const std::string& name, const auto& parameter) {
    using Real = Accumulator<typename M::value_type>;
    const StoredTensor& tensor = *matched.at(name);
    const detail::Layout layout = detail::parameter_layout(tensor, parameter.shape());
    const auto value = parameter.value();
    if constexpr (HostDevice<typename M::device_type>) {
      detail::convert<Real>(tensor, layout, value.data());
    } else {
      std::vector<Real> staged(static_cast<std::size_t>(value.numel()));
      detail::convert<Real>(tensor, layout, staged.data());
      value.upload(staged);
    }
    parameter.changed();
  });
}

// Replaces `path` by a safetensors file of every parameter of the model, or throws and leaves it as it was.
template <class M>
void save_parameters(const std::filesystem::path& path, const M& model,
                     const std::map<std::string, std::string>& metadata = {}) {
  detail::FileWriter writer(path.string());
  detail::write_parameters(writer, model, metadata);
  writer.commit();
}

}  // namespace ddpm::io
