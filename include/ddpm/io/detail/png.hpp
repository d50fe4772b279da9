// SPDX-License-Identifier: MIT
// PNG to and from bytes through libpng's simplified interface, which needs no setjmp.
#pragma once

#include <png.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/detail/pixels.hpp>

namespace ddpm::io::detail {

// Frees what libpng holds for an image.
struct PngImage {
  png_image image{};
  PngImage() { image.version = PNG_IMAGE_VERSION; }
  PngImage(const PngImage&) = delete;
  PngImage& operator=(const PngImage&) = delete;
  ~PngImage() { png_image_free(&image); }
};

inline std::string encode_png(const std::uint8_t* pixels, int height, int width, int channels,
                              const std::string& path) {
  PngImage png;
  png.image.width = static_cast<png_uint_32>(width);
  png.image.height = static_cast<png_uint_32>(height);
  png.image.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  std::string out(PNG_IMAGE_PNG_SIZE_MAX(png.image), '\0');
  png_alloc_size_t size = out.size();
  if (png_image_write_to_memory(&png.image, out.data(), &size, 0, pixels, 0, nullptr) == 0)
    fail(path, message("an error of libpng (", png.image.message, ")"), "an image that can be encoded");
  out.resize(size);
  return out;
}

// Gray stays gray, colour and palettes become RGB, 16 bits become 8; alpha is dropped. Colours of a file that
// states another gamma are converted to sRGB.
inline Pixels decode_png(std::string_view bytes, const std::string& path) {
  constexpr std::int64_t pixels_per_byte =
      8 * 1032;  // of one bit each, by the most that deflate can compress
  PngImage png;
  const auto fail_as_libpng = [&] {
    fail(path, message("an error of libpng (", png.image.message, ")"), "a PNG image");
  };
  if (png_image_begin_read_from_memory(&png.image, bytes.data(), bytes.size()) == 0) fail_as_libpng();
  const bool has_color = (png.image.format & PNG_FORMAT_FLAG_COLOR) != 0;
  Pixels out{{}, static_cast<int>(png.image.height), static_cast<int>(png.image.width), has_color ? 3 : 1};
  check_size(out, std::ssize(bytes) * pixels_per_byte, path);
  png.image.format = has_color ? PNG_FORMAT_RGBA : PNG_FORMAT_GA;  // with alpha: else libpng blends it in
  png.image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;  // 16 bits are taken to be sRGB as 8 bits are
  std::vector<std::uint8_t> with_alpha(PNG_IMAGE_SIZE(png.image));
  if (png_image_finish_read(&png.image, nullptr, with_alpha.data(), 0, nullptr) == 0) fail_as_libpng();

  out.data.reserve(out.size());
  const std::size_t channels = has_color ? 3 : 1;
  for (std::size_t i = 0; i < with_alpha.size(); ++i)
    if (i % (channels + 1) != channels) out.data.push_back(with_alpha[i]);
  return out;
}

}  // namespace ddpm::io::detail
