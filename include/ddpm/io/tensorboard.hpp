// SPDX-License-Identifier: MIT
// EventWriter: scalars and images for TensorBoard, in the event files it reads.
//
// A file is a sequence of records (TFRecord): length (8 bytes, little-endian), masked CRC of the length, data, masked
// CRC of the data. The data is a protocol buffer `Event` of tensorflow/core/util/event.proto, whose few fields used here
// are written by hand.
#pragma once

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>

#include <ddpm/io/detail/append_file.hpp>
#include <ddpm/io/image.hpp>

namespace ddpm::io {

namespace detail {

// CRC-32C (Castagnoli), reflected polynomial 0x82F63B78: 0xE3069283 for "123456789".
inline std::uint32_t crc32c(std::string_view bytes) {
  static const std::array<std::uint32_t, 256> table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
      t[i] = crc;
    }
    return t;
  }();
  std::uint32_t crc = ~0u;
  for (const char c : bytes) crc = table[(crc ^ static_cast<std::uint8_t>(c)) & 0xff] ^ crc >> 8;
  return ~crc;
}

// What TFRecord stores, so that the CRC of data that holds CRCs is not degenerate.
inline std::uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u;
}

template <class T>
std::string raw_bytes(T value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}

inline std::string tf_record(std::string_view data) {
  const std::string length = raw_bytes(std::uint64_t{data.size()});
  return length + raw_bytes(masked_crc32c(length)) + std::string(data) + raw_bytes(masked_crc32c(data));
}

// Fields of a protocol buffer: a key of number and wire type, then the value.
class ProtoMessage {
 public:
  ProtoMessage& integer(int field, std::uint64_t value) {
    key(field, 0);
    varint(value);
    return *this;
  }
  ProtoMessage& real(int field, double value) { return fixed(field, 1, value); }
  ProtoMessage& real(int field, float value) { return fixed(field, 5, value); }
  ProtoMessage& text(int field, std::string_view value) {
    key(field, 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  ProtoMessage& message(int field, const ProtoMessage& value) { return text(field, value.bytes_); }

  const std::string& bytes() const { return bytes_; }

 private:
  void key(int field, int wire_type) { varint(static_cast<std::uint64_t>(field << 3 | wire_type)); }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  template <class T>
  ProtoMessage& fixed(int field, int wire_type, T value) {
    key(field, wire_type);
    bytes_ += raw_bytes(value);
    return *this;
  }

  std::string bytes_;
};

}  // namespace detail

class EventWriter {
 public:
  // A new file in `folder`. TensorBoard drops what earlier files of the folder hold from `first_step` on: the steps of a
  // run that is continued from before its end.
  EventWriter(const std::filesystem::path& folder, std::int64_t first_step)
      : file_(folder / message("events.out.tfevents.", static_cast<std::int64_t>(now()), ".", ::getpid(), ".",
                               first_step)) {
    constexpr int file_version = 3, session_log = 7, status = 1, start = 1;
    file_.write(detail::tf_record(
        detail::ProtoMessage().real(wall_time, now()).text(file_version, "brain.Event:2").bytes()));
    write(first_step, session_log, detail::ProtoMessage().integer(status, start));
  }

  void scalar(const std::string& tag, std::int64_t step, double value) {
    constexpr int simple_value = 2;
    write_value(step,
                detail::ProtoMessage().text(tag_field, tag).real(simple_value, static_cast<float>(value)));
  }

  void image(const std::string& tag, std::int64_t step, const Image& image) {
    constexpr int image_field = 4, height = 1, width = 2, colorspace = 3, encoded = 4;
    detail::ProtoMessage picture;
    picture.integer(height, static_cast<std::uint64_t>(image.height))
        .integer(width, static_cast<std::uint64_t>(image.width))
        .integer(colorspace, static_cast<std::uint64_t>(image.channels))
        .text(encoded, detail::encode_png(image.data.data(), image.height, image.width, image.channels, tag));
    write_value(step, detail::ProtoMessage().text(tag_field, tag).message(image_field, picture));
  }

 private:
  static constexpr int wall_time = 1, step_field = 2, tag_field = 1;

  static double now() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  }

  void write_value(std::int64_t step, const detail::ProtoMessage& value) {
    constexpr int summary = 5, value_field = 1;
    write(step, summary, detail::ProtoMessage().message(value_field, value));
  }
  void write(std::int64_t step, int field, const detail::ProtoMessage& what) {
    file_.write(detail::tf_record(detail::ProtoMessage()
                                      .real(wall_time, now())
                                      .integer(step_field, static_cast<std::uint64_t>(step))
                                      .message(field, what)
                                      .bytes()));
  }

  detail::AppendFile file_;
};

}  // namespace ddpm::io
