// SPDX-License-Identifier: MIT
// Reader and writer of safetensors files: 8 bytes of header length, a JSON header, then the tensors without
// gaps.
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ddpm/core/dtype.hpp>
#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/detail/safetensors_header.hpp>
#include <ddpm/io/dtype.hpp>

namespace ddpm::io {

static_assert(std::endian::native == std::endian::little, "safetensors stores little-endian numbers");

// A tensor in a file, borrowed from the SafeTensors it came from. `bytes` need not be aligned.
struct StoredTensor {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape = {};
  std::span<const std::byte> bytes = {};

  std::int64_t numel() const { return static_cast<std::int64_t>(bytes.size() / size_of(dtype)); }
};

// What tensors can be converted to.
template <class T>
concept Readable = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::int64_t>;

namespace detail {

// bf16 and half convert through a type of their own, everything else through the C++ type of its bits.
struct Half {
  std::uint16_t bits;
  operator float() const { return half_to_float(bits); }
};

template <class Source, class T>
std::vector<T> convert(std::span<const std::byte> bytes) {
  std::vector<T> out(bytes.size() / sizeof(Source));
  for (std::size_t i = 0; i < out.size(); ++i) {
    Source value;
    std::memcpy(&value, bytes.data() + i * sizeof(Source), sizeof(Source));  // the bytes may be unaligned
    if constexpr (std::same_as<Source, bf16> || std::same_as<Source, Half>)
      out[i] = static_cast<T>(static_cast<float>(value));
    else
      out[i] = static_cast<T>(value);
  }
  return out;
}

template <class T>
std::vector<T> convert(const StoredTensor& tensor) {
  switch (tensor.dtype) {
    case DType::f64:
      return convert<double, T>(tensor.bytes);
    case DType::f32:
      return convert<float, T>(tensor.bytes);
    case DType::f16:
      return convert<Half, T>(tensor.bytes);
    case DType::bf16:
      return convert<bf16, T>(tensor.bytes);
    case DType::i64:
      return convert<std::int64_t, T>(tensor.bytes);
    case DType::i32:
      return convert<std::int32_t, T>(tensor.bytes);
    case DType::i16:
      return convert<std::int16_t, T>(tensor.bytes);
    case DType::i8:
      return convert<std::int8_t, T>(tensor.bytes);
    case DType::u64:
      return convert<std::uint64_t, T>(tensor.bytes);
    case DType::u32:
      return convert<std::uint32_t, T>(tensor.bytes);
    case DType::u16:
      return convert<std::uint16_t, T>(tensor.bytes);
    case DType::u8:
    case DType::boolean:
      break;
  }
  return convert<std::uint8_t, T>(tensor.bytes);
}

}  // namespace detail

// A file that was checked from end to end when it was opened, mapped read-only. Any number of threads may
// read it.
class SafeTensors {
 public:
  explicit SafeTensors(const std::filesystem::path& path) : path_(path.string()), file_(path_) {
    const std::span<const std::byte> bytes = file_.bytes();
    detail::SafeTensorsHeader header = detail::parse_safetensors_header(bytes, path_);
    metadata_ = std::move(header.metadata);
    for (detail::HeaderEntry& entry : header.entries) {
      names_.push_back(entry.name);
      tensors_.emplace(std::move(entry.name),
                       StoredTensor{entry.dtype, std::move(entry.shape),
                                    bytes.subspan(header.data_start + entry.begin, entry.end - entry.begin)});
    }
  }

  const std::string& path() const { return path_; }
  const std::vector<std::string>& names() const { return names_; }  // in the order of the file
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
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
    std::vector<T> values = detail::convert<T>(tensor);
    if constexpr (std::integral<T>) {
      const bool overflows =
          tensor.dtype == DType::u64 && std::ranges::any_of(values, [](T v) { return v < 0; });
      if (overflows)
        detail::fail(path_, message(detail::in_quotes(name), " with a value above 2^63-1"), "less");
    }
    return values;
  }

 private:
  std::string path_;
  detail::MappedFile file_;
  std::vector<std::string> names_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

// A tensor to be written: `data` points to all its elements.
struct TensorToWrite {
  std::string name = {};
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape = {};
  const void* data = nullptr;
};

// Replaces `path` by a file of these tensors, or throws and leaves it as it was. The same input gives the
// same bytes: tensors stand in the given order, but wider types first, so that every tensor is aligned to its
// elements.
inline void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
  const std::string name = path.string();
  std::vector<const TensorToWrite*> ordered;
  for (const TensorToWrite& tensor : tensors) ordered.push_back(&tensor);
  std::ranges::stable_sort(ordered, std::ranges::greater{},
                           [](const TensorToWrite* tensor) { return size_of(tensor->dtype); });
  std::vector<detail::HeaderEntry> entries;
  std::size_t offset = 0;
  for (const TensorToWrite* tensor : ordered) {
    const std::size_t size = detail::stored_size(tensor->name, tensor->dtype, tensor->shape, name);
    if (size > 0 && tensor->data == nullptr)
      detail::fail(name, message("no data for ", detail::in_quotes(tensor->name)), message(size, " bytes"));
    if (size > std::numeric_limits<std::size_t>::max() / 2 - offset)
      detail::fail(name, "tensors larger than any file", "fewer bytes");
    entries.push_back({tensor->name, tensor->dtype, tensor->shape, offset, offset + size});
    offset += size;
  }
  const std::string header = detail::format_safetensors_header(entries, metadata, name);
  detail::FileWriter writer(name);
  writer.write(header);
  for (std::size_t i = 0; i < ordered.size(); ++i)
    writer.write(ordered[i]->data, entries[i].end - entries[i].begin);
  writer.commit();
}

}  // namespace ddpm::io
