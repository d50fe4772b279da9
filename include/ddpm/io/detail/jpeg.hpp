// SPDX-License-Identifier: MIT
// JPEG to bytes through libjpeg.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>  // jpeglib.h wants FILE and size_t declared
#include <string>
#include <string_view>

#include <jpeglib.h>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/file.hpp>
#include <ddpm/io/detail/pixels.hpp>

namespace ddpm::io::detail {

// One image being decoded. libjpeg reports an error through a function that must not return: it jumps back to
// the step under way, which has nothing to destroy.
class JpegDecoder {
 public:
  explicit JpegDecoder(std::string_view bytes) : bytes_(bytes) {
    info_.err = jpeg_std_error(&errors_);
    info_.client_data = this;
    errors_.error_exit = [](j_common_ptr info) { self(info).stop_as_libjpeg(); };
    errors_.emit_message = [](j_common_ptr info, int level) {
      if (level < 0) self(info).stop_as_libjpeg();  // a warning: the data are damaged
    };
    // A scan costs a few bytes, and a pass over the whole image.
    progress_.progress_monitor = [](j_common_ptr info) {
      if (self(info).info_.input_scan_number > most_scans) self(info).stop("more than 1000 scans");
    };
  }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;
  ~JpegDecoder() { jpeg_destroy_decompress(&info_); }

  // The steps, in order. False: error() says why.
  bool read_header() {
    if (setjmp(step_) != 0) return false;
    jpeg_create_decompress(&info_);
    info_.progress = &progress_;
    jpeg_mem_src(&info_, reinterpret_cast<const unsigned char*>(bytes_.data()), bytes_.size());
    jpeg_read_header(&info_, TRUE);
    if (info_.jpeg_color_space == JCS_GRAYSCALE)
      info_.out_color_space = JCS_GRAYSCALE;
    else if (info_.jpeg_color_space == JCS_YCbCr || info_.jpeg_color_space == JCS_RGB)
      info_.out_color_space = JCS_RGB;
    else
      stop(info_.num_components == 4 ? "CMYK colours" : "unknown colours");
    jpeg_calc_output_dimensions(&info_);
    return true;
  }
  bool read_pixels(std::uint8_t* to) {
    if (setjmp(step_) != 0) return false;
    jpeg_start_decompress(&info_);
    const std::size_t line = std::size_t{info_.output_width} * static_cast<std::size_t>(channels());
    while (info_.output_scanline < info_.output_height) {
      JSAMPROW row = to + info_.output_scanline * line;
      jpeg_read_scanlines(&info_, &row, 1);
    }
    jpeg_finish_decompress(&info_);
    return true;
  }

  const char* error() const { return text_; }
  int height() const { return static_cast<int>(info_.output_height); }
  int width() const { return static_cast<int>(info_.output_width); }
  int channels() const { return info_.output_components; }

 private:
  static constexpr int most_scans = 1000;

  static JpegDecoder& self(j_common_ptr info) { return *static_cast<JpegDecoder*>(info->client_data); }

  [[noreturn]] void stop_as_libjpeg() {
    errors_.format_message(reinterpret_cast<j_common_ptr>(&info_), text_);
    std::longjmp(step_, 1);
  }
  [[noreturn]] void stop(const char* text) {
    std::snprintf(text_, sizeof text_, "%s", text);
    std::longjmp(step_, 1);
  }

  std::string_view bytes_;
  jpeg_decompress_struct info_{};
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf step_{};
  char text_[JMSG_LENGTH_MAX] = "";
};

// Gray stays gray, colours become RGB; CMYK and damaged data are refused. The orientation that EXIF data may
// ask for is not applied.
inline Pixels decode_jpeg(std::string_view bytes, const std::string& path) {
  constexpr std::int64_t pixels_per_byte = 512;  // Huffman coding spends at least a bit on a block of 64
  JpegDecoder jpeg(bytes);
  const auto fail_as_decoder = [&] { fail(path, jpeg.error(), "a complete JPEG image, gray or RGB"); };
  if (!jpeg.read_header()) fail_as_decoder();
  Pixels out{{}, jpeg.height(), jpeg.width(), jpeg.channels()};
  check_size(out, std::ssize(bytes) * pixels_per_byte, path);
  out.data.resize(out.size());
  if (!jpeg.read_pixels(out.data.data())) fail_as_decoder();
  return out;
}

}  // namespace ddpm::io::detail
