// SPDX-License-Identifier: MIT
#include <ddpm/io/image.hpp>
#include <ddpm/io/plot.hpp>

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "catch_shim.hpp"
#include "io_support.hpp"

using namespace ddpm;

namespace {

// A PNG of the given libpng format, from rows of samples.
template <class Sample>
std::string png_of(png_uint_32 format, std::vector<Sample> samples, int height, int width,
                   const std::vector<std::uint8_t>& palette = {}) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.height = static_cast<png_uint_32>(height);
  image.width = static_cast<png_uint_32>(width);
  image.format = format;
  image.colormap_entries = static_cast<png_uint_32>(palette.size() / 3);
  std::string out(100'000, '\0');
  png_alloc_size_t size = out.size();
  REQUIRE(png_image_write_to_memory(&image, out.data(), &size, 0, samples.data(), 0,
                                    palette.empty() ? nullptr : palette.data()) != 0);
  out.resize(size);
  return out;
}

std::string refusal(const std::filesystem::path& file) {
  const std::string text = failure([&] { io::read_png(file); });
  INFO(text);
  CHECK(is_io_sentence(text, file));
  return text;
}

}  // namespace

TEST_CASE("gray and RGB images are read back exactly") {
  const TemporaryFolder folder;
  for (const int channels : {1, 3}) {
    std::vector<std::uint8_t> pixels;
    for (int i = 0; i < 5 * 7 * channels; ++i) pixels.push_back(static_cast<std::uint8_t>(i * 37));
    io::write_png(folder / "x.png", pixels, 5, 7, channels);
    const io::Image image = io::read_png(folder / "x.png");
    CHECK(image.height == 5);
    CHECK(image.width == 7);
    CHECK(image.channels == channels);
    CHECK(image.data == pixels);
  }
  CHECK(folder.files() == 1);
}

TEST_CASE("alpha is dropped and palettes become colours") {
  const TemporaryFolder folder;
  const auto rgba = png_of<std::uint8_t>(PNG_FORMAT_RGBA, {10, 20, 30, 0, 40, 50, 60, 128}, 1, 2);
  CHECK(io::read_png(folder.put("x", rgba)).data == std::vector<std::uint8_t>{10, 20, 30, 40, 50, 60});
  const auto gray = png_of<std::uint8_t>(PNG_FORMAT_GA, {10, 0, 40, 128}, 1, 2);
  CHECK(io::read_png(folder.put("x", gray)).data == std::vector<std::uint8_t>{10, 40});
  const auto indexed = png_of<std::uint8_t>(PNG_FORMAT_RGB_COLORMAP, {1, 0}, 1, 2, {1, 2, 3, 200, 100, 0});
  const io::Image image = io::read_png(folder.put("x", indexed));
  CHECK(image.channels == 3);
  CHECK(image.data == std::vector<std::uint8_t>{200, 100, 0, 1, 2, 3});
  const auto wide = png_of<std::uint16_t>(PNG_FORMAT_LINEAR_Y, {0, 65535}, 1, 2);
  CHECK(io::read_png(folder.put("x", wide)).data == std::vector<std::uint8_t>{0, 255});
}

TEST_CASE("files that are no PNG are refused") {
  const TemporaryFolder folder;
  const auto file = folder / "x.png";
  io::write_png(file, std::vector<std::uint8_t>(300, 9), 10, 10, 3);
  const std::string whole = contents(file);
  const std::size_t end_chunk = 12;  // after the pixels are complete it may be missing
  for (std::size_t size = 0; size < whole.size() - end_chunk; ++size) {
    const auto cut = folder.put("cut.png", whole.substr(0, size));
    const std::string text = failure([&] { io::read_png(cut); });
    INFO(size << " " << text);
    // libpng may forgive the loss of the last bytes of pixel data, whose checksum they are.
    if (size + 20 < whole.size()) CHECK(is_io_sentence(text, cut));
  }
  std::string huge = whole;
  huge.replace(16, 8, std::string("\x00\x0f\x42\x40\x00\x0f\x42\x40", 8));
  refusal(folder.put("huge.png", huge));
  refusal(folder.put("text.png", "no image at all"));
  refusal(folder / "absent.png");
}

TEST_CASE("values of [-1, 1] become bytes") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  CHECK(io::to_byte(-1) == 0);
  CHECK(io::to_byte(1) == 255);
  CHECK(io::to_byte(0) == 128);
  CHECK(io::to_byte(-7) == 0);
  CHECK(io::to_byte(7) == 255);
  CHECK(io::to_byte(inf) == 255);
  CHECK(io::to_byte(-inf) == 0);
  CHECK(io::to_byte(std::nanf("")) == 0);
  for (int byte = 0; byte < 256; ++byte) CHECK(io::to_byte(static_cast<float>(byte) / 127.5f - 1) == byte);
}

TEST_CASE("a grid has its images in rows") {
  const TemporaryFolder folder;
  std::vector<float> pixels;  // [3, 1, 2, 1]
  for (const int byte : {10, 20, 30, 40, 50, 60}) pixels.push_back(static_cast<float>(byte) / 127.5f - 1);
  io::write_grid(folder / "x.png", pixels, Shape{3, 1, 2, 1}, 2);
  const io::Image image = io::read_png(folder / "x.png");
  CHECK(image.height == 2);
  CHECK(image.width == 4);
  CHECK(image.data == std::vector<std::uint8_t>{10, 20, 30, 40, 50, 60, 0, 0});
  CHECK(io::make_grid(pixels, Shape{3, 1, 2, 1}, 1000).width == 6);
  CHECK(io::make_grid(pixels, Shape{2, 1, 1, 3}).data == std::vector<std::uint8_t>{10, 20, 30, 40, 50, 60});

  const Tensor<double, Reference> tensor(Reference{}, {3, 1, 2, 1},
                                         std::vector<double>(pixels.begin(), pixels.end()));
  io::write_grid(folder / "y.png", tensor, 2);
  CHECK(contents(folder / "x.png") == contents(folder / "y.png"));
}

TEST_CASE("images that cannot be written are refused") {
  const TemporaryFolder folder;
  const std::vector<std::uint8_t> bytes(12);
  const std::vector<float> values(12);
  CHECK_THROWS_AS(io::write_png(folder / "x", bytes, 2, 3, 1), ShapeError);
  CHECK_THROWS_AS(io::write_png(folder / "x", bytes, 2, 3, 2), ShapeError);
  CHECK_THROWS_AS(io::write_png(folder / "x", bytes, 0, 3, 1), ShapeError);
  CHECK_THROWS_AS(io::write_png(folder / "x", bytes, -2, -6, 1), ShapeError);
  CHECK_THROWS_AS(io::write_grid(folder / "x", values, Shape{1, 2, 3, 2}), ShapeError);
  CHECK_THROWS_AS(io::write_grid(folder / "x", values, Shape{2, 2, 3, 3}), ShapeError);
  CHECK_THROWS_AS(io::write_grid(folder / "x", values, Shape{12}), ShapeError);
  CHECK_THROWS_AS(io::write_grid(folder / "x", std::span<const float>{}, Shape{0, 2, 2, 1}), ShapeError);
  CHECK_THROWS_AS(io::write_grid(folder / "x", values, Shape{1, 2, 6, 1}, -1), ShapeError);
  CHECK(folder.files() == 0);
  CHECK(is_io_sentence(failure([&] { io::write_png("/dev/full", bytes, 2, 2, 3); }), "/dev/full"));
  CHECK(is_io_sentence(failure([&] { io::write_png(folder / "a/b.png", bytes, 2, 2, 3); }),
                       folder / "a/b.png"));
}

TEST_CASE("a plot is drawn whatever the numbers") {
  const TemporaryFolder folder;
  const auto ink = [&](std::vector<double> xs, std::vector<double> ys, const io::LinePlotOptions& options) {
    io::write_line_plot(folder / "x.png", xs, ys, options);
    const io::Image image = io::read_png(folder / "x.png");
    CHECK(image.width == options.width);
    CHECK(image.height == options.height);
    int blue = 0;
    for (std::size_t i = 0; i < image.data.size(); i += 3)
      blue += image.data[i + 2] > image.data[i] + 50 ? 1 : 0;
    return blue;
  };
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr double inf = std::numeric_limits<double>::infinity();
  const io::LinePlotOptions small{
      .title = "Loss \xff\n", .x_label = "step", .y_label = "mse", .width = 320, .height = 200};
  io::LinePlotOptions logarithmic = small;
  logarithmic.log_y = true;
  logarithmic.smoothing = 0.9;
  CHECK(ink({0, 1, 2}, {1, 0.5, 0.25}, small) > 200);
  CHECK(ink({0, 1, 2}, {1, 0.5, 0.25}, logarithmic) > 200);
  CHECK(ink({0, 1, 2, 3, 4}, {nan, 0.5, inf, -1, 2}, logarithmic) > 100);
  CHECK(ink({0}, {0}, small) > 0);
  CHECK(ink({1e6, 1e6}, {5, 5}, small) > 0);
  CHECK(ink({0, 1}, {-1e299, 1e299}, small) > 100);
  CHECK(ink({0, 1}, {1e-300, 1e299}, logarithmic) > 100);
  CHECK(ink({0, 1}, {1, 1 + 1e-15}, small) > 100);
  CHECK(ink({0, 1}, {0, 5e-324}, small) > 0);
  CHECK(ink({0, 1}, {5e-324, 1e-323}, logarithmic) > 0);
  CHECK(ink({-1e299, 1e299}, {1, 1.01}, logarithmic) > 100);
}

TEST_CASE("plots that cannot be drawn are refused") {
  const TemporaryFolder folder;
  const std::vector<double> none, one = {1}, two = {1, 2}, negative = {-1};
  CHECK_THROWS_AS(io::write_line_plot(folder / "x", none, none), ShapeError);
  CHECK_THROWS_AS(io::write_line_plot(folder / "x", one, two), ShapeError);
  CHECK_THROWS_AS(io::write_line_plot(folder / "x", one, negative, {.log_y = true}), ShapeError);
  CHECK_THROWS_AS(io::write_line_plot(folder / "x", one, one, {.smoothing = 1}), ShapeError);
  CHECK_THROWS_AS(io::write_line_plot(folder / "x", one, one, {.width = 10}), ShapeError);
  CHECK(is_io_sentence(failure([&] { io::write_line_plot("/dev/full", one, one); }), "/dev/full"));
}

TEST_CASE("ticks are round numbers within the range") {
  using io::detail::Axis;
  const auto ticks = [](double low, double high, Axis::Scale scale) {
    return Axis(std::array{low, high}, scale, 0.0).ticks(5);
  };
  CHECK(ticks(0, 10, Axis::Scale::linear) == std::vector<double>{0, 2, 4, 6, 8, 10});
  CHECK(ticks(0.01, 1, Axis::Scale::logarithmic).size() >= 3);
  CHECK(ticks(0.4, 0.6, Axis::Scale::logarithmic).size() >= 3);
  CHECK(io::detail::tick_label(20000) == "20k");
  CHECK(io::detail::tick_label(0.05) == "0.05");
  CHECK(io::detail::tick_label(-1500) == "-1.5k");
}
