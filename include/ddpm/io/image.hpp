// SPDX-License-Identifier: MIT
// Pictures in files: PNG and JPEG read, PNG and grids of generated samples written.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <ddpm/core/dtype.hpp>
#include <ddpm/core/error.hpp>
#include <ddpm/core/shape.hpp>
#include <ddpm/core/tensor.hpp>
#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/detail/jpeg.hpp>
#include <ddpm/io/detail/pixels.hpp>
#include <ddpm/io/detail/png.hpp>

namespace ddpm::io {

namespace detail {
inline constexpr int largest_side = 1'000'000;  // what libpng accepts
}

// 8-bit pixels, [height, width, channels], gray or RGB.
using Image = detail::Pixels;

inline void write_png(const std::filesystem::path& path, std::span<const std::uint8_t> pixels, int height,
                      int width, int channels) {
  check(height >= 1 && width >= 1 && height <= detail::largest_side && width <= detail::largest_side &&
            (channels == 1 || channels == 3),
        "write_png: an image of ", height, "x", width, "x", channels, " given, expected sides from 1 to ",
        detail::largest_side, " and 1 or 3 channels");
  const std::size_t size = std::size_t(height) * std::size_t(width) * std::size_t(channels);
  check(pixels.size() == size, "write_png: ", pixels.size(), " bytes given for ", height, "x", width, "x",
        channels);
  detail::write_file(path.string(),
                     detail::encode_png(pixels.data(), height, width, channels, path.string()));
}

inline void write_png(const std::filesystem::path& path, const Image& image) {
  write_png(path, image.data, image.height, image.width, image.channels);
}

namespace detail {
inline std::string read_image_file(const std::filesystem::path& path) {
  constexpr std::size_t longest = std::size_t{1} << 30;
  return read_text(path.string(), longest);
}
}  // namespace detail

inline Image read_png(const std::filesystem::path& path) {
  return detail::decode_png(detail::read_image_file(path), path.string());
}

// A PNG or a JPEG, as its first bytes tell, whatever its name. Gray stays gray, everything else becomes RGB
// of 8 bits; alpha is dropped. CMYK is refused, and so is a damaged file. The orientation in EXIF data is
// ignored.
inline Image read_image(const std::filesystem::path& path) {
  const std::string bytes = detail::read_image_file(path);
  if (bytes.starts_with("\x89PNG")) return detail::decode_png(bytes, path.string());
  if (bytes.starts_with("\xff\xd8")) return detail::decode_jpeg(bytes, path.string());
  detail::fail(path.string(), message("a file that begins with ", detail::in_quotes(bytes.substr(0, 8))),
               "a PNG or a JPEG");
}

// The byte of a value in [-1, 1], rounded as diffusers rounds; NaN is black.
inline std::uint8_t to_byte(float value) {
  const float unit = value / 2 + 0.5f;
  const float clamped = unit >= 1 ? 1.0f : unit > 0 ? unit : 0.0f;
  return static_cast<std::uint8_t>(std::nearbyint(clamped * 255));
}

// Images side by side without gaps, row by row; what is left of the last row is black. 0 columns: as square
// as possible.
inline Image make_grid(std::span<const float> pixels, const Shape& shape, int columns = 0) {
  check(shape.rank() == 4 && shape.numel() > 0 && (shape[3] == 1 || shape[3] == 3),
        "make_grid: images of shape ", shape, " given, expected [N, H, W, 1] or [N, H, W, 3]");
  check(static_cast<std::int64_t>(pixels.size()) == shape.numel(), "make_grid: ", pixels.size(),
        " values given for ", shape);
  check(columns >= 0, "make_grid: ", columns, " columns given, expected at least 0");
  const std::int64_t count = shape[0], height = shape[1], line = shape[2] * shape[3];
  const auto square = static_cast<std::int64_t>(std::ceil(std::sqrt(static_cast<double>(count))));
  const std::int64_t across = columns > 0 ? std::min<std::int64_t>(columns, count) : square;
  const std::int64_t down = (count + across - 1) / across;
  check(down * height <= detail::largest_side && across * shape[2] <= detail::largest_side,
        "make_grid: a grid of ", down, "x", across, " images of shape ", shape,
        " asked for, expected sides of at most ", detail::largest_side, " pixels");
  Image grid;
  grid.height = static_cast<int>(down * height);
  grid.width = static_cast<int>(across * shape[2]);
  grid.channels = static_cast<int>(shape[3]);
  grid.data.resize(static_cast<std::size_t>(down * height * across * line));
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t y = 0; y < height; ++y) {
      const auto from =
          pixels.subspan(static_cast<std::size_t>((i * height + y) * line), static_cast<std::size_t>(line));
      const std::int64_t to = ((i / across * height + y) * across + i % across) * line;
      std::ranges::transform(from, grid.data.begin() + to, to_byte);
    }
  return grid;
}

inline void write_grid(const std::filesystem::path& path, std::span<const float> pixels, const Shape& shape,
                       int columns = 0) {
  write_png(path, make_grid(pixels, shape, columns));
}

// Samples as Diffusion::sample returns them.
template <Element T, Device D>
void write_grid(const std::filesystem::path& path, const TensorView<T, D>& images, int columns = 0) {
  const std::vector<T> values = images.to_host();
  const std::vector<float> pixels(values.begin(), values.end());
  write_grid(path, pixels, images.shape(), columns);
}

}  // namespace ddpm::io
