// SPDX-License-Identifier: MIT
// What hand-made .bin files of torch are made of: a zip writer that can lie, and the words of a pickle.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace torch_support {

inline std::string little_endian(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i, value >>= 8) out += static_cast<char>(value & 0xff);
  return out;
}

// An entry of a zip file; what is set below `data` takes the place of the truth.
struct ZipPart {
  std::string name, data;
  int method = 0;
  int flags = 0;
  std::optional<std::uint32_t> crc = {};
  std::optional<std::uint64_t> size = {}, offset = {};
};

inline std::string deflated(const std::string& data) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, data.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

enum class Zip64 { no, yes };

inline std::string zip(const std::vector<ZipPart>& parts, Zip64 zip64 = Zip64::no) {
  const bool wide = zip64 == Zip64::yes;
  std::string file, directory;
  for (const ZipPart& part : parts) {
    const std::string packed = part.method == 8 ? deflated(part.data) : part.data;
    const std::uint64_t size = part.size.value_or(part.data.size()), at = part.offset.value_or(file.size());
    const auto crc = part.crc.value_or(static_cast<std::uint32_t>(
        crc32(0, reinterpret_cast<const Bytef*>(part.data.data()), static_cast<uInt>(part.data.size()))));
    const std::string common = little_endian(20, 2) +
                               little_endian(static_cast<std::uint64_t>(part.flags), 2) +
                               little_endian(static_cast<std::uint64_t>(part.method), 2) +
                               little_endian(0, 4) + little_endian(crc, 4);
    const std::string narrow = little_endian(packed.size(), 4) + little_endian(size, 4);
    const std::string saturated = std::string(8, '\xff');
    const std::string extra = little_endian(1, 2) + little_endian(24, 2) + little_endian(size, 8) +
                              little_endian(packed.size(), 8) + little_endian(at, 8);
    directory += "PK\1\2" + little_endian(20, 2) + common + (wide ? saturated : narrow) +
                 little_endian(part.name.size(), 2) + little_endian(wide ? extra.size() : 0, 2) +
                 little_endian(0, 10) + (wide ? saturated.substr(4) : little_endian(at, 4)) + part.name +
                 (wide ? extra : "");
    file += "PK\3\4" + common + narrow + little_endian(part.name.size(), 2) + little_endian(3, 2) +
            part.name + "pad" + packed;
  }
  const std::uint64_t at = file.size(), count = parts.size();
  file += directory;
  if (wide) {
    const std::uint64_t record = file.size();
    file += "PK\6\6" + little_endian(44, 8) + little_endian(45, 4) + little_endian(0, 8) +
            little_endian(count, 8) + little_endian(count, 8) + little_endian(directory.size(), 8) +
            little_endian(at, 8);
    file += "PK\6\7" + little_endian(0, 4) + little_endian(record, 8) + little_endian(1, 4);
  }
  return file + "PK\5\6" + little_endian(0, 4) + little_endian(wide ? 0xffff : count, 2) +
         little_endian(wide ? 0xffff : count, 2) + little_endian(wide ? 0xffffffff : directory.size(), 4) +
         little_endian(wide ? 0xffffffff : at, 4) + little_endian(0, 2);
}

// Words of a pickle; each leaves one value on the stack.
inline std::string integer(std::int64_t value) {
  return "\x8a\x08" + little_endian(static_cast<std::uint64_t>(value), 8);
}
inline std::string text(const std::string& value) { return "X" + little_endian(value.size(), 4) + value; }
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string tuple(const std::vector<std::string>& items) {
  std::string out = "(";
  for (const std::string& item : items) out += item;
  return out + "t";
}
inline std::string integers(const std::vector<std::int64_t>& values) {
  std::vector<std::string> items;
  for (const std::int64_t value : values) items.push_back(integer(value));
  return tuple(items);
}
inline std::string call(const std::string& callee, const std::vector<std::string>& arguments) {
  return callee + tuple(arguments) + "R";
}
inline std::string storage(const std::string& type, const std::string& key, std::int64_t count) {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), integer(count)}) + "Q";
}
inline std::string tensor(const std::string& storage, std::int64_t offset,
                          const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides) {
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              {storage, integer(offset), integers(shape), integers(strides), "\x89",
               call(global("collections", "OrderedDict"), {})});
}
inline std::string state_dict(const std::vector<std::pair<std::string, std::string>>& tensors) {
  std::string out = "\x80\x02}(";
  for (const auto& [name, value] : tensors) out += text(name) + value;
  return out + "u.";
}

// A file of this pickle and the storages "0", "1", ...
inline std::string torch_file(const std::string& pickle, const std::vector<std::string>& storages) {
  std::vector<ZipPart> parts{{"archive/data.pkl", pickle}};
  for (std::size_t i = 0; i < storages.size(); ++i)
    parts.push_back({"archive/data/" + std::to_string(i), storages[i]});
  return zip(parts);
}

}  // namespace torch_support
