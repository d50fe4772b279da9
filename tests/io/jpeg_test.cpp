// SPDX-License-Identifier: MIT
#include <ddpm/io/image.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "catch_shim.hpp"
#include "io_support.hpp"
#include "jpeg_samples.hpp"

using namespace ddpm;

namespace {

struct Probe {
  int y, x;
  std::vector<int> expected;
};

// Decoders may differ by a rounding in the inverse transform and in the chroma between samples.
void check_pixels(const io::Image& image, const std::vector<Probe>& probes) {
  for (const auto& [y, x, expected] : probes)
    for (std::size_t c = 0; c < expected.size(); ++c) {
      INFO(y << " " << x << " " << c);
      const auto at = static_cast<std::size_t>((y * image.width + x) * image.channels) + c;
      CHECK(std::abs(image.data.at(at) - expected[c]) <= 2);
    }
}

// A JPEG whose three components come one after the other.
std::string in_single_scans(int height, int width) {
  jpeg_error_mgr errors{};
  jpeg_compress_struct info{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_height = static_cast<JDIMENSION>(height);
  info.image_width = static_cast<JDIMENSION>(width);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  const std::array<jpeg_scan_info, 3> scans{
      {{1, {0}, 0, 63, 0, 0}, {1, {1}, 0, 63, 0, 0}, {1, {2}, 0, 63, 0, 0}}};
  info.scan_info = scans.data();
  info.num_scans = 3;
  jpeg_start_compress(&info, TRUE);
  std::vector<std::uint8_t> line(static_cast<std::size_t>(3 * width), 99);
  for (JSAMPROW row = line.data(); info.next_scanline < info.image_height;)
    jpeg_write_scanlines(&info, &row, 1);
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  const std::string out(reinterpret_cast<const char*>(bytes), size);
  std::free(bytes);
  return out;
}

std::string refusal(const std::filesystem::path& file) {
  const std::string text = failure([&] { io::read_image(file); });
  INFO(text);
  CHECK(is_io_sentence(text, file));
  return text;
}

}  // namespace

TEST_CASE("JPEG pixels are those that PIL reads", "[jpeg]") {
  const TemporaryFolder folder;
  const io::Image rgb = io::read_image(folder.put("x.jpg", jpeg_samples::rgb));
  CHECK(std::array{rgb.height, rgb.width, rgb.channels} == std::array{12, 16, 3});
  CHECK(rgb.data.size() == 12 * 16 * 3);
  check_pixels(
      rgb, {{0, 0, {0, 5, 241}}, {0, 15, {224, 7, 138}}, {11, 0, {17, 210, 166}}, {11, 15, {243, 211, 64}}});
  const io::Image gray = io::read_image(folder.put("x.jpg", jpeg_samples::gray));
  CHECK(std::array{gray.height, gray.width, gray.channels} == std::array{3, 5, 1});
  check_pixels(gray, {{0, 0, {0}}, {0, 4, {158}}, {2, 0, {37}}, {2, 4, {198}}, {1, 2, {97}}});
  const io::Image progressive = io::read_image(folder.put("x.jpg", jpeg_samples::progressive));
  CHECK(std::array{progressive.height, progressive.width, progressive.channels} == std::array{3, 5, 3});
  check_pixels(progressive,
               {{0, 0, {0, 8, 15}}, {0, 4, {157, 166, 173}}, {2, 0, {38, 47, 54}}, {1, 2, {99, 108, 115}}});
}

TEST_CASE("a picture is known by its bytes, not by its name", "[jpeg]") {
  const TemporaryFolder folder;
  CHECK(io::read_image(folder.put("x.png", jpeg_samples::gray)).width == 5);
  io::write_png(folder / "x.jpg", std::vector<std::uint8_t>{1, 2}, 1, 2, 1);
  CHECK(io::read_image(folder / "x.jpg").data == std::vector<std::uint8_t>{1, 2});
}

TEST_CASE("CMYK is refused", "[jpeg]") {
  const TemporaryFolder folder;
  CHECK(mentions(refusal(folder.put("x.jpg", jpeg_samples::cmyk)), "found CMYK colours, expected"));
}

TEST_CASE("a JPEG cut anywhere is refused", "[jpeg]") {
  for (const std::string& whole : {jpeg_samples::rgb, jpeg_samples::gray, jpeg_samples::progressive})
    for (std::size_t size = 0; size < whole.size(); ++size) {
      const std::string text = failure([&] { io::detail::decode_jpeg(whole.substr(0, size), "cut.jpg"); });
      INFO(size << " of " << whole.size() << ": " << text);
      CHECK(is_io_sentence(text, "cut.jpg"));
    }
}

// Neither a crash nor a wrong size, whatever a byte is changed to; under the sanitizers nothing worse either.
TEST_CASE("a JPEG with a changed byte is read whole or refused", "[jpeg]") {
  int refused = 0;
  for (const std::string& whole : {jpeg_samples::rgb, jpeg_samples::progressive})
    for (std::size_t i = 0; i < whole.size(); ++i)
      for (const char byte : {'\0', '\x7f', '\xff'}) {
        std::string changed = whole;
        changed[i] = byte;
        try {
          const io::Image image = io::detail::decode_jpeg(changed, "changed.jpg");
          CHECK(image.data.size() == image.size());
        } catch (const IoError& error) {
          CHECK(is_io_sentence(error.what(), "changed.jpg"));
          ++refused;
        }
      }
  CHECK(refused > 100);
}

TEST_CASE("an image larger than its file can hold is refused before memory is taken", "[jpeg]") {
  const TemporaryFolder folder;
  std::string huge = jpeg_samples::gray;
  const std::size_t frame = huge.find("\xff\xc0");
  huge.replace(frame + 5, 4, "\xff\xdc\xff\xdc");
  CHECK(mentions(refusal(folder.put("x.jpg", huge)),
                 "found an image of 65500x65500, expected at most 89600 pixels"));
}

TEST_CASE("a JPEG of endless scans is refused", "[jpeg]") {
  const TemporaryFolder folder;
  const std::string whole = in_single_scans(16, 16);
  const std::size_t last = whole.rfind("\xff\xda");
  const std::string scan = whole.substr(last, whole.size() - 2 - last);
  const auto with_scans = [&](int more) {
    std::string out = whole.substr(0, whole.size() - 2);
    for (int i = 0; i < more; ++i) out += scan;
    return out + "\xff\xd9";
  };
  CHECK(io::read_image(folder.put("x.jpg", with_scans(900))).width == 16);
  CHECK(mentions(refusal(folder.put("x.jpg", with_scans(1100))), "found more than 1000 scans, expected"));
}

TEST_CASE("what is no picture is refused", "[jpeg]") {
  const TemporaryFolder folder;
  CHECK(mentions(refusal(folder.put("x.jpg", "GIF89a and more")), "\"GIF89a a\""));
  refusal(folder.put("empty.png", ""));
  refusal(folder.path());
  refusal(folder / "absent.png");
}
