// SPDX-License-Identifier: MIT
// Event files: the checksum, the framing, and the messages read back field by field.

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <ddpm/io/tensorboard.hpp>

#include "catch_shim.hpp"
#include "io/io_support.hpp"

using namespace ddpm::io;

namespace {

template <class T>
T read_as(std::string_view bytes) {
  T value;
  REQUIRE(bytes.size() >= sizeof value);
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

// The data of all records, whose checksums must be right.
std::vector<std::string> records(std::string_view file) {
  std::vector<std::string> all;
  while (!file.empty()) {
    const auto size = read_as<std::uint64_t>(file);
    REQUIRE(file.size() >= 16 + size);
    CHECK(read_as<std::uint32_t>(file.substr(8)) == detail::masked_crc32c(file.substr(0, 8)));
    all.emplace_back(file.substr(12, size));
    CHECK(read_as<std::uint32_t>(file.substr(12 + size)) == detail::masked_crc32c(all.back()));
    file.remove_prefix(16 + size);
  }
  return all;
}

std::uint64_t take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    REQUIRE(!bytes.empty());
    const auto byte = static_cast<std::uint8_t>(bytes.front());
    bytes.remove_prefix(1);
    value |= std::uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
}

// Field number -> its bytes, an integer as 8 of them.
std::map<int, std::string> fields(std::string_view bytes) {
  std::map<int, std::string> all;
  while (!bytes.empty()) {
    const std::uint64_t key = take_varint(bytes);
    std::string value;
    if ((key & 7) == 0) {
      value = detail::raw_bytes(take_varint(bytes));
    } else {
      const std::size_t size = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : take_varint(bytes);
      REQUIRE(bytes.size() >= size);
      value = bytes.substr(0, size);
      bytes.remove_prefix(size);
    }
    all[static_cast<int>(key >> 3)] = value;
  }
  return all;
}

std::filesystem::path only_file(const std::filesystem::path& folder) {
  return std::filesystem::directory_iterator(folder)->path();
}

}  // namespace

TEST_CASE("CRC-32C", "[tensorboard]") {
  CHECK(detail::crc32c("") == 0);
  CHECK(detail::crc32c("123456789") == 0xE3069283u);
  // RFC 3720, appendix B.4.
  CHECK(detail::crc32c(std::string(32, '\0')) == 0x8A9136AAu);
  CHECK(detail::crc32c(std::string(32, '\xff')) == 0x62A8AB43u);
  CHECK(detail::masked_crc32c(std::string(32, '\0')) == 0x0FD7FFFAu);
}

TEST_CASE("an event file", "[tensorboard]") {
  const TemporaryFolder folder;
  {
    EventWriter writer(folder.path(), 301);
    writer.scalar("loss", 300, 0.25);
    writer.scalar("loss", std::int64_t{1} << 40, -1e-3);
    writer.image("samples", 5, Image{{0, 128, 255, 7, 8, 9}, 1, 2, 3});
  }
  REQUIRE(folder.files() == 1);
  const auto file = only_file(folder.path());
  CHECK(mentions(file.filename().string(), "tfevents"));
  const auto events = records(contents(file));
  REQUIRE(events.size() == 5);

  CHECK(fields(events[0]).at(3) == "brain.Event:2");
  CHECK(read_as<double>(fields(events[0]).at(1)) > 1.6e9);

  auto event = fields(events[1]);  // SessionLog, START, at step 301
  CHECK(read_as<std::uint64_t>(event.at(2)) == 301);
  CHECK(read_as<std::uint64_t>(fields(event.at(7)).at(1)) == 1);

  event = fields(events[2]);
  CHECK(read_as<std::uint64_t>(event.at(2)) == 300);
  auto value = fields(fields(event.at(5)).at(1));
  CHECK(value.at(1) == "loss");
  CHECK(read_as<float>(value.at(2)) == 0.25f);
  CHECK(read_as<std::uint64_t>(fields(events[3]).at(2)) == std::uint64_t{1} << 40);

  event = fields(events[4]);
  value = fields(fields(event.at(5)).at(1));
  CHECK(value.at(1) == "samples");
  const auto image = fields(value.at(4));
  CHECK(read_as<std::uint64_t>(image.at(1)) == 1);
  CHECK(read_as<std::uint64_t>(image.at(2)) == 2);
  CHECK(read_as<std::uint64_t>(image.at(3)) == 3);
  const auto decoded = read_png(folder.put("image.png", image.at(4)));
  CHECK(decoded.data == std::vector<std::uint8_t>{0, 128, 255, 7, 8, 9});
}

TEST_CASE("an event file that cannot be written", "[tensorboard]") {
  const TemporaryFolder folder;
  CHECK(
      mentions(failure([&] { EventWriter(folder / "nowhere", 1); }), "expected a file that can be written"));
}
