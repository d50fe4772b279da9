// SPDX-License-Identifier: MIT
// JSON of files that nobody has vouched for: depth is bounded, duplicate keys are refused, errors are one
// sentence.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/file.hpp>

namespace ddpm::io::detail {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // keeps the order in which keys were added: for writing

inline constexpr int deepest_json = 8;
inline constexpr std::size_t longest_config = 16u << 20;

// A JSON value as it stands in a message: short, on one line.
inline std::string shown(const Json& value) {
  constexpr std::size_t longest = 60;
  const std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() <= longest ? text : text.substr(0, longest) + "...";
}

// Python writes NaN, Infinity and -Infinity, for which JSON has no word: outside strings they become strings.
inline std::string with_quoted_constants(std::string_view text) {
  std::string out;
  bool is_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string_view word = text.substr(i, 1);
    if (is_string && word == "\\") word = text.substr(i, 2);
    if (word == "\"") is_string = !is_string;
    for (const std::string_view constant : {"NaN", "Infinity", "-Infinity"})
      if (!is_string && text.substr(i).starts_with(constant)) word = constant;
    const bool is_constant = !is_string && word.size() > 1;
    out.append(is_constant ? "\"" : "").append(word).append(is_constant ? "\"" : "");
    i += word.size() - 1;
  }
  return out;
}

// Parses the whole of `text`, which must be one object; `path` names the file in messages.
inline Json parse_json_object(std::string_view text, const std::string& path) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto inspect = [&](int depth, Json::parse_event_t event, Json& parsed) {
    using Event = Json::parse_event_t;
    if ((event == Event::object_start || event == Event::array_start) && depth >= deepest_json)
      fail(path, message("JSON nested deeper than ", deepest_json, " levels"), "a shallower object");
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second)
        fail(path, message("the key ", in_quotes(key), " twice"), "it once");
    }
    return true;
  };
  Json json;
  try {
    json = Json::parse(text.begin(), text.end(), inspect);
  } catch (const Json::parse_error& error) {
    fail(path, message("malformed JSON at byte ", error.byte), "one JSON object");
  } catch (const Json::exception&) {  // a number that no double can hold
    fail(path, "a JSON number out of range", "one JSON object");
  }
  if (!json.is_object()) fail(path, message("a JSON ", json.type_name()), "a JSON object");
  return json;
}

// Indent -1: all on one line. Text that is not UTF-8 is refused.
inline std::string dump_json(const OrderedJson& json, int indent, const std::string& path) {
  try {
    return json.dump(indent);
  } catch (const Json::exception&) {
    fail(path, "text that is not UTF-8", "names and metadata in UTF-8");
  }
}

}  // namespace ddpm::io::detail
