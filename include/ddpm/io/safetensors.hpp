// SPDX-License-Identifier: MIT
// Reader and writer of safetensors files: 8 bytes of header length, a JSON header, then the tensors without
// gaps.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/detail/safetensors_header.hpp>
#include <ddpm/io/dtype.hpp>
#include <ddpm/io/tensor_set.hpp>

namespace ddpm::io {

// A file that was checked from end to end when it was opened, mapped read-only. It must not be shortened
// while it is in use; to be replaced by another does no harm.
class SafeTensors : public TensorSet {
 public:
  explicit SafeTensors(const std::filesystem::path& path) : TensorSet(path.string()), file_(path.string()) {
    const std::span<const std::byte> bytes = file_.bytes();
    detail::SafeTensorsHeader header = detail::parse_safetensors_header(bytes, this->path());
    metadata_ = std::move(header.metadata);
    for (detail::HeaderEntry& entry : header.entries)
      add(entry.name, {entry.dtype, std::move(entry.shape),
                       bytes.subspan(header.data_start + entry.begin, entry.end - entry.begin)});
  }

  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  detail::MappedFile file_;
  std::map<std::string, std::string> metadata_;
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
