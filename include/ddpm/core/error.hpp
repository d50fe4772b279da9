// SPDX-License-Identifier: MIT
// The error types of the library, and the one function that throws them.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace ddpm {

// Every message is a full sentence that names the operation, what was found and what was expected.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct ShapeError : Error {
  using Error::Error;
};
struct ConfigError : Error {
  using Error::Error;
};
struct IoError : Error {
  using Error::Error;
};
struct DeviceError : Error {
  DeviceError(const std::string& what, int error_code) : Error(what), code(error_code) {}
  int code;
};

// Joins its arguments as an output stream would.
template <class... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// Throws E with the joined parts unless `ok`; the message is only built on failure.
template <class E = ShapeError, class... Parts>
constexpr void check(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]]
    throw E(message(parts...));
}

}  // namespace ddpm
