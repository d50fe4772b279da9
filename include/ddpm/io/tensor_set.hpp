// SPDX-License-Identifier: MIT
// TensorSet: named tensors as they stand in files, whatever the format, and their conversion.
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/detail/gather.hpp>
#include <ddpm/io/dtype.hpp>

namespace ddpm::io {

static_assert(std::endian::native == std::endian::little, "the formats store little-endian numbers");

// A tensor in a file, borrowed from the set it came from.
struct StoredTensor {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape = {};
  std::span<const std::byte> bytes = {};   // the first element and all behind it; need not be aligned
  std::vector<std::int64_t> strides = {};  // of each axis, in elements; empty: without gaps, in order

  std::int64_t numel() const {
    std::int64_t product = 1;
    for (const std::int64_t extent : shape) product *= extent;
    return product;
  }
};

// What tensors can be converted to.
template <class T>
concept Readable = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::int64_t>;

namespace detail {

// Bytes of a tensor: the product of its shape times the size of an element, which must fit in 63 bits.
inline std::size_t stored_size(const std::string& name, DType dtype, const std::vector<std::int64_t>& shape,
                               const std::string& path) {
  auto size = static_cast<std::int64_t>(size_of(dtype));
  for (const std::int64_t extent : shape) {
    if (extent < 0) fail(path, message("extent ", extent, " of ", in_quotes(name)), "none below 0");
    if (__builtin_mul_overflow(size, extent, &size))
      fail(path, message("a shape of ", in_quotes(name), " whose size overflows"), "at most 2^63-1 bytes");
  }
  return static_cast<std::size_t>(size);
}

// The elements in the tensor's own order. A tensor with gaps has at most four axes.
inline Layout layout_of(const StoredTensor& tensor) {
  if (tensor.strides.empty()) return Layout::flat(tensor.numel());
  Layout layout{{1, 1, 1, 1}, {0, 0, 0, 1}};
  std::ranges::copy_backward(tensor.shape, layout.extent.end());
  std::ranges::copy_backward(tensor.strides, layout.stride.end());
  return layout;
}

template <class T>
void convert(const StoredTensor& tensor, const Layout& layout, T* out) {
  with_element_type(tensor.dtype, [&]<class Source>(std::type_identity<Source>) {
    gather<Source>(tensor.bytes.data(), layout, out);
  });
}

}  // namespace detail

// Any number of threads may read it.
class TensorSet {
 public:
  const std::string& path() const { return path_; }                 // for messages
  const std::vector<std::string>& names() const { return names_; }  // in the order of the file
  bool contains(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }

  const StoredTensor& tensor(std::string_view name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end())
      detail::fail(path_, message("no tensor named ", detail::in_quotes(name)),
                   message("one of its ", names_.size(), " tensors"));
    return found->second;
  }

  // The elements of a tensor as T; integers only from integers that fit.
  template <Readable T>
  std::vector<T> as(std::string_view name) const {
    const StoredTensor& tensor = this->tensor(name);
    if constexpr (std::integral<T>) {
      if (is_floating_point(tensor.dtype))
        detail::fail(path_, message(detail::in_quotes(name), " of type ", name_of(tensor.dtype)),
                     "an integer type");
    }
    std::vector<T> values(static_cast<std::size_t>(tensor.numel()));
    detail::convert(tensor, detail::layout_of(tensor), values.data());
    if constexpr (std::integral<T>) {
      const bool overflows =
          tensor.dtype == DType::u64 && std::ranges::any_of(values, [](T v) { return v < 0; });
      if (overflows)
        detail::fail(path_, message(detail::in_quotes(name), " with a value above 2^63-1"), "less");
    }
    return values;
  }

 protected:
  explicit TensorSet(std::string path) : path_(std::move(path)) {}

  void add(const std::string& name, StoredTensor tensor) {
    if (!tensors_.emplace(name, std::move(tensor)).second)
      detail::fail(path_, message("the tensor ", detail::in_quotes(name), " twice"), "it once");
    names_.push_back(name);
  }

 private:
  std::string path_;
  std::vector<std::string> names_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

}  // namespace ddpm::io
