// SPDX-License-Identifier: MIT
// The binary version of CIFAR-10: records of one label and 32x32 pixels, planar red, green, blue; plain or
// gzip.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/core/image_set.hpp>
#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/detail/gz_reader.hpp>
#include <ddpm/io/split.hpp>

namespace ddpm::io {

namespace detail {

inline constexpr int cifar_side = 32;
inline constexpr std::size_t cifar_plane = std::size_t{cifar_side} * cifar_side;
inline constexpr std::size_t cifar_record = 1 + 3 * cifar_plane;
inline constexpr int cifar_classes = 10;

inline void append_cifar_record(const std::array<std::uint8_t, cifar_record>& record, ImageSet& images,
                                const std::string& path) {
  // A label out of range most often means another layout, such as that of CIFAR-100.
  if (record[0] >= cifar_classes)
    fail(path, message("label ", int{record[0]}, " in record ", images.count), "labels from 0 to 9");
  images.labels.push_back(record[0]);
  for (std::size_t pixel = 0; pixel < cifar_plane; ++pixel)
    for (std::size_t channel = 0; channel < 3; ++channel)
      images.pixels.push_back(record[1 + channel * cifar_plane + pixel]);
  ++images.count;
}

inline void append_cifar_file(const std::filesystem::path& path, ImageSet& images) {
  GzReader reader(path.string());
  std::array<std::uint8_t, cifar_record> record;
  const std::int64_t before = images.count;
  while (const std::size_t size = reader.read(record.data(), record.size())) {
    if (size != record.size())
      fail(reader.path(), message("a last record of ", size, " bytes"), message(record.size(), " bytes"));
    append_cifar_record(record, images, reader.path());
  }
  if (images.count == before) fail(reader.path(), "no data", message("records of ", record.size(), " bytes"));
}

inline ImageSet empty_cifar() {
  ImageSet images;
  images.height = images.width = cifar_side;
  images.channels = 3;
  return images;
}

}  // namespace detail

// One file of that layout.
inline ImageSet read_cifar10(const std::filesystem::path& file) {
  ImageSet images = detail::empty_cifar();
  detail::append_cifar_file(file, images);
  return images;
}

// data_batch_1.bin to data_batch_5.bin, or test_batch.bin, each plain or with .gz, of a folder or of the
// cifar-10-batches-bin in it.
inline ImageSet cifar10(const std::filesystem::path& folder, Split split = Split::train) {
  std::vector<std::string> names = {"test_batch.bin"};
  if (split == Split::train)
    names = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
             "data_batch_5.bin"};
  std::error_code error;
  const std::filesystem::path inner = folder / "cifar-10-batches-bin";
  const std::filesystem::path home = std::filesystem::is_directory(inner, error) ? inner : folder;
  ImageSet images = detail::empty_cifar();
  for (const std::string& name : names) {
    const bool is_plain = std::filesystem::exists(home / name, error);
    if (!is_plain && !std::filesystem::exists(home / (name + ".gz"), error))
      detail::fail(home.string(), message("no ", name, " and no ", name, ".gz"),
                   "the files of the binary version of CIFAR-10");
    detail::append_cifar_file(home / (is_plain ? name : name + ".gz"), images);
  }
  return images;
}

}  // namespace ddpm::io
