// SPDX-License-Identifier: MIT
// TorchBin: the tensors of a state dict that torch.save wrote (torch 1.6 or later: a zip archive of a pickle
// and of the storages it names). Tensors and nothing else are made of the pickle.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/detail/pickle.hpp>
#include <ddpm/io/detail/zip.hpp>
#include <ddpm/io/dtype.hpp>
#include <ddpm/io/tensor_set.hpp>

namespace ddpm::io {

namespace detail {

struct TorchStorageRow {
  std::string_view name;
  DType dtype;
};

inline constexpr std::array<TorchStorageRow, 10> torch_storages = {{{"torch.FloatStorage", DType::f32},
                                                                    {"torch.HalfStorage", DType::f16},
                                                                    {"torch.BFloat16Storage", DType::bf16},
                                                                    {"torch.DoubleStorage", DType::f64},
                                                                    {"torch.LongStorage", DType::i64},
                                                                    {"torch.IntStorage", DType::i32},
                                                                    {"torch.ShortStorage", DType::i16},
                                                                    {"torch.CharStorage", DType::i8},
                                                                    {"torch.ByteStorage", DType::u8},
                                                                    {"torch.BoolStorage", DType::boolean}}};

inline constexpr std::string_view ordered_dict = "collections.OrderedDict";
inline constexpr std::string_view rebuild_tensor = "torch._utils._rebuild_tensor_v2";
inline constexpr std::string_view rebuild_parameter = "torch._utils._rebuild_parameter";

inline constexpr auto torch_globals = [] {
  std::array<std::string_view, torch_storages.size() + 3> names{ordered_dict, rebuild_tensor,
                                                                rebuild_parameter};
  for (std::size_t i = 0; i < torch_storages.size(); ++i) names[i + 3] = torch_storages[i].name;
  return names;
}();

// The strides of a tensor without gaps whose last axis runs fastest; null axes count as well.
inline bool is_contiguous(const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides) {
  std::int64_t expected = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] != 1 && strides[axis] != expected) return false;
    expected *= shape[axis];
  }
  return true;
}

// Makes tensors of the pickle of one archive.
class TorchReader {
 public:
  TorchReader(std::span<const std::byte> file, const std::string& path)
      : path_(path), archive_(zip_of(file, path), path) {
    const auto& [name, entry] = pickle_entry();
    folder_ = name.substr(0, name.size() - pickle_name.size());
    check_byte_order();
    pickle_ = Unpickler(archive_.read(name, entry), path_, torch_globals).load();
  }

  // Calls f(name, tensor) for each entry of the state dict.
  template <class F>
  void for_each(F&& f) {
    const PickleNode& root = pickle_[pickle_.root];
    if (root.kind != Kind::dict && !is_call(root, ordered_dict))
      fail(path_, "a pickle of something else", "a state dict, names and tensors");
    for (std::size_t i = 0; i < root.entries.size(); i += 2) {
      const PickleNode& key = pickle_[root.entries[i]];
      if (key.kind != Kind::text || !std::ranges::all_of(key.text, is_printable))
        fail(path_, message("entry ", i / 2, " under a key that is no printable text"),
             "the name of a tensor");
      name_ = std::string(key.text);
      f(name_, tensor_of(pickle_[root.entries[i + 1]]));
    }
  }

 private:
  using Kind = PickleNode::Kind;

  static constexpr std::string_view pickle_name = "data.pkl";
  // A pickle takes some 200 bytes for a tensor, and the tree of it up to 100 times its size.
  static constexpr std::size_t longest_pickle = std::size_t{4} << 20;
  static constexpr std::size_t most_axes = 8;

  // Names what torch wrote before its version 1.6.
  static std::span<const std::byte> zip_of(std::span<const std::byte> file, const std::string& path) {
    const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
    const char* found = text.starts_with("\x80\x02\x8a\x0a")                         ? "a bare pickle"
                        : text.size() > 262 && text.substr(257).starts_with("ustar") ? "a tar archive"
                        : !text.starts_with("PK")                                    ? "no zip archive"
                                                                                     : nullptr;
    if (found != nullptr)
      fail(path, found, "a file that torch.save of version 1.6 or later wrote: load and save it there");
    return file;
  }

  const std::pair<const std::string, ZipEntry>& pickle_entry() const {
    for (const auto& named : archive_.entries())
      if (named.first == pickle_name || named.first.ends_with(message("/", pickle_name))) {
        if (named.second.size > longest_pickle)
          fail(path_, message("a pickle of ", named.second.size, " bytes"),
               message("at most ", longest_pickle));
        return named;
      }
    fail(path_, "a zip archive without data.pkl", "one that torch.save wrote");
  }

  void check_byte_order() {
    const auto found = archive_.entries().find(folder_ + "byteorder");
    if (found == archive_.entries().end()) return;  // before torch 2.1
    const auto bytes = archive_.read(found->first, found->second);
    const std::string_view order(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (order != "little") fail(path_, message("byte order ", in_quotes(order)), "little");
  }

  template <class Expected>
  [[noreturn]] void refuse(const char* found, const Expected& expected) const {
    fail(path_, message(found, " as ", in_quotes(name_)), expected);
  }

  bool is_call(const PickleNode& node, std::string_view callee) const {
    if (node.kind != Kind::call) return false;
    const PickleNode& global = pickle_[node.items[0]];
    return global.kind == Kind::global && global.text == callee;
  }
  const PickleNode& argument(const PickleNode& call, std::size_t i) const {
    const PickleNode& arguments = pickle_[call.items[1]];
    if (arguments.kind != Kind::tuple || i >= arguments.items.size())
      refuse("a call without its arguments", "a tensor");
    return pickle_[arguments.items[i]];
  }

  StoredTensor tensor_of(const PickleNode& value) {
    const PickleNode& node = is_call(value, rebuild_parameter) ? argument(value, 0) : value;
    if (!is_call(node, rebuild_tensor)) refuse("something else", "a tensor");
    StoredTensor tensor = storage_of(argument(node, 0));
    const std::int64_t offset = integer_of(argument(node, 1));
    tensor.shape = integers_of(argument(node, 2));
    tensor.strides = integers_of(argument(node, 3));
    place(tensor, offset);
    return tensor;
  }

  // All bytes of the storage that a persistent id names: ("storage", type, key, device, number of elements).
  StoredTensor storage_of(const PickleNode& node) {
    const PickleNode* id = node.kind == Kind::persistent ? &pickle_[node.items[0]] : nullptr;
    if (id == nullptr || id->kind != Kind::tuple || id->items.size() != 5)
      refuse("a tensor without a storage", "a tensor");
    const PickleNode &type = pickle_[id->items[1]], &key = pickle_[id->items[2]];
    const auto* row = std::ranges::find(torch_storages, type.text, &TorchStorageRow::name);
    if (type.kind != Kind::global || row == torch_storages.end() || key.kind != Kind::text)
      refuse("a storage of no known type", "a tensor");
    const std::int64_t count = integer_of(pickle_[id->items[4]]);
    const std::span<const std::byte> bytes = storage_bytes(std::string(key.text));
    if (stored_size(name_, row->dtype, {count}, path_) != bytes.size())
      refuse("a storage that is not as long as its entry", message(bytes.size(), " bytes"));
    return {.dtype = row->dtype, .bytes = bytes};
  }

  // Several tensors may share a storage: it is read once.
  std::span<const std::byte> storage_bytes(const std::string& key) {
    const auto known = storages_.find(key);
    if (known != storages_.end()) return known->second;
    const auto found = archive_.entries().find(folder_ + "data/" + key);
    if (found == archive_.entries().end()) refuse("a storage that is not in the archive", "a tensor");
    return storages_[key] = archive_.read(found->first, found->second);
  }

  std::int64_t integer_of(const PickleNode& node) const {
    if (node.kind != Kind::integer || node.integer < 0)
      refuse("a size that is no integer from 0 to 2^63-1", "a tensor");
    return node.integer;
  }
  std::vector<std::int64_t> integers_of(const PickleNode& node) const {
    // One tuple may be the shape of every tensor, so that its length counts as often.
    if (node.kind != Kind::tuple || node.items.size() > most_axes)
      refuse("a shape or strides that are no tuple", message("a tuple of at most ", most_axes, " integers"));
    std::vector<std::int64_t> values;
    values.reserve(node.items.size());
    for (const PickleNode::Index i : node.items) values.push_back(integer_of(pickle_[i]));
    return values;
  }

  // Narrows the bytes of a tensor, a whole storage so far, to those from its first element on.
  void place(StoredTensor& tensor, std::int64_t offset) const {
    const std::size_t width = size_of(tensor.dtype);
    const auto in_storage = static_cast<std::int64_t>(tensor.bytes.size() / width);
    const std::size_t size = stored_size(name_, tensor.dtype, tensor.shape, path_);
    if (tensor.strides.size() != tensor.shape.size())
      refuse("a tensor with other axes than strides", "as many");
    std::int64_t last = offset;
    for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis) {
      std::int64_t reach = 0;
      if (__builtin_mul_overflow(tensor.shape[axis] - 1, tensor.strides[axis], &reach) ||
          __builtin_add_overflow(last, reach, &last))
        refuse("strides that overflow", "strides within its storage");
    }
    // With no more elements than its storage, no tensor costs more memory than the file does.
    if (size > 0 && (last >= in_storage || size > tensor.bytes.size()))
      refuse("a tensor larger than its storage", message("one within ", in_storage, " elements"));
    if (size == 0 || is_contiguous(tensor.shape, tensor.strides)) {
      tensor.strides.clear();
      tensor.bytes = tensor.bytes.subspan(size == 0 ? 0 : static_cast<std::size_t>(offset) * width, size);
    } else if (tensor.shape.size() <= 4) {
      tensor.bytes = tensor.bytes.subspan(static_cast<std::size_t>(offset) * width);
    } else {
      refuse("a tensor of more than four axes with gaps", "one without, or fewer axes");
    }
  }

  std::string path_;
  ZipArchive archive_;
  std::string folder_;  // of the archive, with a slash
  Pickle pickle_;
  std::map<std::string, std::span<const std::byte>> storages_;
  std::string name_;  // of the tensor that is being made
};

}  // namespace detail

// A file that was checked from end to end when it was opened; tensors that are not compressed are not copied.
class TorchBin : public TensorSet {
 public:
  explicit TorchBin(const std::filesystem::path& path)
      : TensorSet(path.string()), file_(path.string()), reader_(file_.bytes(), this->path()) {
    reader_.for_each([&](const std::string& name, StoredTensor tensor) { add(name, std::move(tensor)); });
  }

 private:
  detail::MappedFile file_;
  detail::TorchReader reader_;  // owns what was inflated
};

}  // namespace ddpm::io
