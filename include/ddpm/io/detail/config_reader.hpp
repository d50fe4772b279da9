// SPDX-License-Identifier: MIT
// ConfigReader: takes known keys out of a JSON object and refuses values, and keys, that it cannot honour.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/detail/json.hpp>

namespace ddpm::io::detail {

// The largest integer any key of a configuration may have.
inline constexpr int largest_integer = 1 << 20;

class ConfigReader {
 public:
  // `where` names the file in messages.
  ConfigReader(std::string_view text, std::string where)
      : object_(parse_json_object(text, where)), where_(std::move(where)) {}

  // The value of a key, or null where it is absent; the key counts as known.
  const Json* find(const std::string& key) {
    known_.insert(key);
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }

  bool is_null(const std::string& key) {
    const Json* value = find(key);
    return value != nullptr && value->is_null();
  }

  template <class Expected>
  [[noreturn]] void refuse(const std::string& key, const Json& value, const Expected& expected) const {
    throw ConfigError(message(where_, ": ", key, " is ", shown(value), ", expected ", expected));
  }

  int integer(const std::string& key, int absent, int smallest, int largest = largest_integer) {
    const Json* value = find(key);
    return value == nullptr ? absent : as_integer(key, *value, smallest, largest);
  }
  int as_integer(const std::string& key, const Json& value, int smallest,
                 int largest = largest_integer) const {
    const bool fits = value.is_number_integer() && value >= smallest && value <= largest;
    if (!fits) refuse(key, value, message("an integer from ", smallest, " to ", largest));
    return value.get<int>();
  }

  // An integer, where `null` leaves it open.
  std::optional<int> optional_integer(const std::string& key, std::optional<int> absent, int smallest) {
    const Json* value = find(key);
    if (value == nullptr) return absent;
    if (value->is_null()) return std::nullopt;
    if (!value->is_number_integer())
      refuse(key, *value, message("null or an integer from ", smallest, " up"));
    return as_integer(key, *value, smallest);
  }

  // A number for which `accepts` holds; `expected` says which those are.
  template <class Accepts>
  double number(const std::string& key, double absent, Accepts accepts, std::string_view expected) {
    const Json* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_number() || !accepts(value->get<double>())) refuse(key, *value, expected);
    return value->get<double>();
  }

  bool boolean(const std::string& key, bool absent) {
    const Json* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_boolean()) refuse(key, *value, "true or false");
    return value->get<bool>();
  }

  // One of several strings; the first is the default.
  std::string choice(const std::string& key, std::initializer_list<std::string_view> supported) {
    const Json* value = find(key);
    return value == nullptr ? std::string(*supported.begin()) : as_choice(key, *value, supported);
  }
  std::string as_choice(const std::string& key, const Json& value,
                        std::initializer_list<std::string_view> supported) const {
    if (value.is_string())
      for (const std::string_view candidate : supported)
        if (value.get_ref<const std::string&>() == candidate) return std::string(candidate);
    std::string listed;
    for (const std::string_view candidate : supported)
      listed += (listed.empty() ? "\"" : " or \"") + std::string(candidate) + '"';
    refuse(key, value, listed);
  }

  // Called last: a key that nobody asked for may change the model, so only private ones (`_name`) may be
  // there.
  void refuse_unknown_keys() const {
    for (const auto& [key, value] : object_.items())
      if (!key.starts_with('_') && !known_.contains(key))
        throw ConfigError(
            message(where_, ": ", in_quotes(key), " is a key this library does not know, expected none"));
  }

  const std::string& where() const { return where_; }

 private:
  Json object_;
  std::string where_;
  std::set<std::string> known_;
};

// A double as Python writes the ints and floats of a configuration: 1 where the value is whole.
inline OrderedJson whole_or_number(double value) {
  constexpr double exact = 1e15;
  if (value == std::floor(value) && std::abs(value) < exact) return static_cast<std::int64_t>(value);
  return value;
}

}  // namespace ddpm::io::detail
