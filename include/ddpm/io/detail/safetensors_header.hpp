// SPDX-License-Identifier: MIT
// The header of a safetensors file: parsed with every claim checked against the file, and formatted.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/detail/json.hpp>
#include <ddpm/io/dtype.hpp>
#include <ddpm/io/tensor_set.hpp>

namespace ddpm::io::detail {

inline constexpr std::size_t length_bytes = 8;
inline constexpr std::uint64_t longest_header = 100'000'000;  // the limit of the format's own library
inline constexpr std::string_view metadata_key = "__metadata__";

struct HeaderEntry {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> shape;
  std::size_t begin, end;  // within the data, which follows the header
};

struct SafeTensorsHeader {
  std::vector<HeaderEntry> entries;  // in the order of their data
  std::map<std::string, std::string> metadata;
  std::size_t data_start = 0;
};

// An array of integers from 0 to 2^63-1 under `key` of the tensor `name`.
inline std::vector<std::int64_t> header_integers(const Json& fields, const char* key, const std::string& name,
                                                 const std::string& path) {
  const auto found = fields.find(key);
  if (found == fields.end() || !found->is_array())
    fail(path, message(in_quotes(name), " without a list ", key), message("a list of integers as ", key));
  std::vector<std::int64_t> values;
  for (const Json& value : *found) {
    constexpr auto largest = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > largest)
      fail(path, message(in_quotes(name), " with an entry of ", key, " that is no integer from 0 to 2^63-1"),
           "only such integers");
    values.push_back(static_cast<std::int64_t>(value.get<std::uint64_t>()));
  }
  return values;
}

inline HeaderEntry parse_header_entry(const std::string& name, const Json& fields, std::size_t data_size,
                                      const std::string& path) {
  if (!fields.is_object())
    fail(path, message("a JSON ", fields.type_name(), " for ", in_quotes(name)),
         "an object with dtype, shape and data_offsets");
  const auto type_name = fields.find("dtype");
  if (type_name == fields.end() || !type_name->is_string())
    fail(path, message(in_quotes(name), " without a dtype"), "a string such as \"F32\" as dtype");
  const std::optional<DType> dtype = dtype_named(type_name->get_ref<const std::string&>());
  if (!dtype)
    fail(path, message(in_quotes(name), " of dtype ", in_quotes(type_name->get_ref<const std::string&>())),
         "F64, F32, F16, BF16, BOOL or an integer type");
  const std::vector<std::int64_t> offsets = header_integers(fields, "data_offsets", name, path);
  if (offsets.size() != 2)
    fail(path, message(offsets.size(), " data_offsets of ", in_quotes(name)), "a begin and an end");
  const auto begin = static_cast<std::size_t>(offsets[0]), end = static_cast<std::size_t>(offsets[1]);
  if (begin > end || end > data_size)
    fail(path, message(in_quotes(name), " from byte ", begin, " to ", end),
         message("an ordered range within the ", data_size, " bytes of data"));
  HeaderEntry entry{name, *dtype, header_integers(fields, "shape", name, path), begin, end};
  const std::size_t size = stored_size(name, *dtype, entry.shape, path);
  if (end - begin != size)
    fail(path, message(end - begin, " bytes for ", in_quotes(name)),
         message("the ", size, " bytes of its shape"));
  return entry;
}

inline std::map<std::string, std::string> parse_metadata(const Json& fields, const std::string& path) {
  std::map<std::string, std::string> metadata;
  if (!fields.is_object())
    fail(path, message("a JSON ", fields.type_name(), " as metadata"), "an object of strings");
  for (const auto& [key, value] : fields.items()) {
    if (!value.is_string())
      fail(path, message("a JSON ", value.type_name(), " as metadata ", in_quotes(key)), "a string");
    metadata.emplace(key, value.get_ref<const std::string&>());
  }
  return metadata;
}

// The tensors must cover the data: each byte belongs to exactly one.
inline void check_coverage(const std::vector<HeaderEntry>& entries, std::size_t data_size,
                           const std::string& path) {
  std::size_t covered = 0;
  for (const HeaderEntry& entry : entries) {
    if (entry.begin != covered)
      fail(path, message(in_quotes(entry.name), " at byte ", entry.begin, " of the data"),
           message("byte ", covered, ", where the tensor before it ends"));
    covered = entry.end;
  }
  if (covered != data_size)
    fail(path, message(data_size, " bytes of data"), message("the ", covered, " bytes of its tensors"));
}

inline SafeTensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& path) {
  if (file.size() < length_bytes)
    fail(path, message("a file of ", file.size(), " bytes"), "8 bytes of header length");
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), length_bytes);
  if (length > longest_header)
    fail(path, message("a header length of ", length), message("at most ", longest_header));
  const std::size_t after_length = file.size() - length_bytes;
  if (length > after_length)
    fail(path, message("a header length of ", length),
         message("at most the ", after_length, " bytes that follow"));
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + length_bytes, length);
  if (!text.starts_with('{')) fail(path, "a header that does not begin with {", "a JSON object");

  SafeTensorsHeader header;
  header.data_start = length_bytes + length;
  const std::size_t data_size = file.size() - header.data_start;
  const Json json = parse_json_object(text, path);
  for (const auto& [name, fields] : json.items()) {
    if (name == metadata_key)
      header.metadata = parse_metadata(fields, path);
    else
      header.entries.push_back(parse_header_entry(name, fields, data_size, path));
  }
  std::ranges::sort(header.entries, {}, [](const HeaderEntry& entry) {
    return std::tuple<std::size_t, std::size_t, const std::string&>(entry.begin, entry.end, entry.name);
  });
  check_coverage(header.entries, data_size, path);
  return header;
}

// The length and the JSON text, padded with spaces so that the data starts at a multiple of 8 bytes.
inline std::string format_safetensors_header(const std::vector<HeaderEntry>& entries,
                                             const std::map<std::string, std::string>& metadata,
                                             const std::string& path) {
  OrderedJson json = OrderedJson::object();
  std::set<std::string_view> names;
  if (!metadata.empty()) json[std::string(metadata_key)] = metadata;
  for (const HeaderEntry& entry : entries) {
    if (entry.name == metadata_key || !names.insert(entry.name).second)
      fail(path, message("a reserved or repeated tensor name ", in_quotes(entry.name)), "a name of its own");
    json[entry.name] = {
        {"dtype", name_of(entry.dtype)}, {"shape", entry.shape}, {"data_offsets", {entry.begin, entry.end}}};
  }
  std::string text = dump_json(json, -1, path);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > longest_header)
    fail(path, message("a header of ", text.size(), " bytes"), message("at most ", longest_header));
  const std::uint64_t length = text.size();
  std::string out(length_bytes, '\0');
  std::memcpy(out.data(), &length, length_bytes);
  return out + text;
}

}  // namespace ddpm::io::detail
