// SPDX-License-Identifier: MIT
// IDX files, the format of MNIST and Fashion-MNIST: big-endian header, then bytes; plain or compressed by
// gzip.
#pragma once

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

inline std::uint32_t read_big_endian(GzReader& reader) {
  const std::vector<std::uint8_t> b = reader.read_exactly(4, "a header field");
  return std::uint32_t{b[0]} << 24 | std::uint32_t{b[1]} << 16 | std::uint32_t{b[2]} << 8 | b[3];
}

// The magic number says: two zero bytes, 8 for bytes as elements, the number of extents.
inline void expect_magic(GzReader& reader, std::uint32_t rank, const char* what) {
  const std::uint32_t magic = read_big_endian(reader);
  const std::uint32_t expected = 0x800u + rank;
  if (magic != expected)
    fail(reader.path(), message("the magic number ", magic), message(expected, ", that of IDX ", what));
}

// NAME or NAME.gz in the folder.
inline std::filesystem::path find_idx(const std::filesystem::path& folder, const std::string& name) {
  for (const char* suffix : {"", ".gz"}) {
    std::filesystem::path candidate = folder / (name + suffix);
    std::error_code error;
    if (std::filesystem::exists(candidate, error)) return candidate;
  }
  fail(folder.string(), message("no ", name, " and no ", name, ".gz"),
       "the four files of Fashion-MNIST (the Debian and Ubuntu package dataset-fashion-mnist has them in "
       "/usr/share/datasets/fashion-mnist)");
}

}  // namespace detail

// Gray images, without labels.
inline ImageSet read_idx_images(const std::filesystem::path& path) {
  constexpr std::uint32_t largest_side = 1u << 15;
  detail::GzReader reader(path.string());
  detail::expect_magic(reader, 3, "images");
  const std::uint32_t count = detail::read_big_endian(reader);
  const std::uint32_t height = detail::read_big_endian(reader);
  const std::uint32_t width = detail::read_big_endian(reader);
  if (height < 1 || width < 1 || height > largest_side || width > largest_side)
    detail::fail(reader.path(), message("images of ", height, "x", width),
                 message("sides from 1 to ", largest_side));
  ImageSet images;
  images.count = count;
  images.height = static_cast<int>(height);
  images.width = static_cast<int>(width);
  images.channels = 1;
  // At most 2^32 * 2^15 * 2^15 bytes: no overflow.
  images.pixels = reader.read_exactly(std::size_t{count} * height * width, "pixels");
  reader.expect_end(message("the pixels of ", count, " images"));
  return images;
}

inline std::vector<std::int32_t> read_idx_labels(const std::filesystem::path& path) {
  detail::GzReader reader(path.string());
  detail::expect_magic(reader, 1, "labels");
  const std::uint32_t count = detail::read_big_endian(reader);
  const std::vector<std::uint8_t> labels = reader.read_exactly(count, "labels");
  reader.expect_end(message(count, " labels"));
  return {labels.begin(), labels.end()};
}

inline ImageSet read_idx(const std::filesystem::path& images_path, const std::filesystem::path& labels_path) {
  ImageSet images = read_idx_images(images_path);
  images.labels = read_idx_labels(labels_path);
  if (static_cast<std::int64_t>(images.labels.size()) != images.count)
    detail::fail(labels_path.string(), message(images.labels.size(), " labels"),
                 message(images.count, " as there are images"));
  return images;
}

// The files train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-..., each plain or with .gz, of a folder.
inline ImageSet fashion_mnist(const std::filesystem::path& folder = "/usr/share/datasets/fashion-mnist",
                              Split split = Split::train) {
  const std::string prefix = split == Split::train ? "train" : "t10k";
  const std::filesystem::path images = detail::find_idx(folder, prefix + "-images-idx3-ubyte");
  return read_idx(images, detail::find_idx(folder, prefix + "-labels-idx1-ubyte"));
}

}  // namespace ddpm::io
