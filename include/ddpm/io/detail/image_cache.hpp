// SPDX-License-Identifier: MIT
// DecodedImages: images of one size as they are decoded, and the file that keeps them.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/file.hpp>

namespace ddpm::io::detail {

// `count` images of `size` bytes, each there or still missing. Threads may put() different ones.
class DecodedImages {
 public:
  DecodedImages(std::size_t count, std::size_t size)
      : count_(count), size_(size), data_(count * (size + 1)) {}

  bool has(std::size_t i) const { return data_[count_ * size_ + i] != 0; }
  void put(std::size_t i, std::span<const std::uint8_t> image) {
    std::ranges::copy(image, data_.begin() + static_cast<std::ptrdiff_t>(i * size_));
    data_[count_ * size_ + i] = 1;
  }
  std::int64_t present() const {
    return std::count_if(data_.end() - static_cast<std::ptrdiff_t>(count_), data_.end(),
                         [](std::uint8_t there) { return there != 0; });
  }

  // The bytes of those that are there.
  std::vector<std::uint8_t> take() && {
    auto end = data_.begin();
    for (std::size_t i = 0; i < count_; ++i)
      if (has(i)) end = std::copy_n(data_.begin() + static_cast<std::ptrdiff_t>(i * size_), size_, end);
    data_.erase(end, data_.end());
    return std::move(data_);
  }

  // What save() kept under the same key. Nothing happens where there is no such file, or a damaged one.
  void load(const std::string& path, std::string_view key) try {
    const MappedFile file(path);
    const std::span<const std::byte> bytes = file.bytes();
    if (bytes.size() != key.size() + data_.size() + crc_size) return;
    const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    if (std::memcmp(data, key.data(), key.size()) != 0) return;
    data += key.size();
    const std::array<std::uint8_t, crc_size> crc = checksum(data);
    if (std::equal(crc.begin(), crc.end(), data + data_.size()))
      std::copy_n(data, data_.size(), data_.begin());
  } catch (const IoError&) {
    return;
  }

  // The key, the images, a byte each for whether it is there, the CRC-32 of these two, least byte first.
  // Nothing remains where it cannot be written.
  void save(const std::string& path, std::string_view key) const try {
    const std::array<std::uint8_t, crc_size> crc = checksum(data_.data());
    FileWriter writer(path);
    writer.write(key);
    writer.write(data_.data(), data_.size());
    writer.write(crc.data(), crc.size());
    writer.commit();
  } catch (const IoError&) {
    return;
  }

 private:
  static constexpr std::size_t crc_size = 4;

  std::array<std::uint8_t, crc_size> checksum(const std::uint8_t* data) const {
    std::array<std::uint8_t, crc_size> out{};
    auto crc = static_cast<std::uint32_t>(::crc32_z(0, data, data_.size()));
    for (std::uint8_t& byte : out) {
      byte = static_cast<std::uint8_t>(crc);
      crc >>= 8;
    }
    return out;
  }

  std::size_t count_, size_;
  std::vector<std::uint8_t> data_;  // the images, and a byte each for whether it is there
};

}  // namespace ddpm::io::detail
