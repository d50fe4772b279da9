// SPDX-License-Identifier: MIT
// Canvas: an RGB image to draw smooth lines, rectangles and text on.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <ddpm/io/detail/plot_font.hpp>
#include <ddpm/io/detail/png.hpp>

namespace ddpm::io::detail {

struct Color {
  std::uint8_t red, green, blue;
};

struct Point {
  double x, y;
};

struct Rectangle {
  int left, top, right, bottom;  // the last two excluded
};

enum class TextAlign { left, center, right };

// Where a line of text goes: its middle is at y, and `align` says which part of it is at x.
struct TextPlace {
  int x, y;
  TextAlign align = TextAlign::left;
  int scale = 2;
};

class Canvas {
 public:
  Canvas(int width, int height) : width_(width), height_(height) {
    pixels_.assign(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3, 255);
  }

  void fill(const Rectangle& area, Color color) {
    for (int y = area.top; y < area.bottom; ++y)
      for (int x = area.left; x < area.right; ++x) blend(x, y, color, 1);
  }

  // A line through all points as one shape: where it meets itself it is no darker. Drawn within `area` only.
  void polyline(const std::vector<Point>& points, double thickness, Color color, const Rectangle& area) {
    std::vector<float> coverage(pixels_.size() / 3, 0.0f);
    for (std::size_t i = 1; i < points.size(); ++i)
      cover({points[i - 1], points[i], thickness / 2}, area, coverage);
    if (points.size() == 1)
      cover({points[0], points[0], thickness}, area, coverage);  // a lone point shows as a dot
    for (int y = std::max(area.top, 0); y < std::min(area.bottom, height_); ++y)
      for (int x = std::max(area.left, 0); x < std::min(area.right, width_); ++x)
        blend(x, y, color, coverage[index(x, y)]);
  }

  void text(std::string_view text, const TextPlace& place, Color color) {
    const int advance = (glyph_width + 1) * place.scale;
    const int width = static_cast<int>(text.size()) * advance - place.scale;
    const int shift = place.align == TextAlign::left     ? 0
                      : place.align == TextAlign::center ? width / 2
                                                         : width;
    const int left = place.x - shift, top = place.y - glyph_baseline * place.scale / 2;
    for (std::size_t i = 0; i < text.size(); ++i)
      draw_glyph(text[i], left + static_cast<int>(i) * advance, top, place.scale, color);
  }

  Pixels image() const { return {pixels_, height_, width_, 3}; }

 private:
  struct Segment {
    Point a, b;
    double radius;
  };

  std::size_t index(int x, int y) const {
    return static_cast<std::size_t>(y) * static_cast<std::size_t>(width_) + static_cast<std::size_t>(x);
  }

  void blend(int x, int y, Color color, float opacity) {
    if (x < 0 || y < 0 || x >= width_ || y >= height_) return;
    std::uint8_t* pixel = pixels_.data() + 3 * index(x, y);
    const std::uint8_t ink[3] = {color.red, color.green, color.blue};
    for (int c = 0; c < 3; ++c) {
      const float mixed = static_cast<float>(pixel[c]) + opacity * static_cast<float>(ink[c] - pixel[c]);
      pixel[c] = static_cast<std::uint8_t>(std::lround(mixed));
    }
  }

  void draw_glyph(char letter, int left, int top, int scale, Color color) {
    for (int y = 0; y < glyph_height; ++y)
      for (int x = 0; x < glyph_width; ++x)
        if (is_drawn(letter, x, y))
          fill({left + x * scale, top + y * scale, left + (x + 1) * scale, top + (y + 1) * scale}, color);
  }

  // Raises the coverage of the pixels within the radius of a segment, with an edge one pixel wide.
  void cover(const Segment& segment, const Rectangle& area, std::vector<float>& coverage) const {
    const auto [a, b, radius] = segment;
    const double reach = radius + 1;
    const int left = std::max({area.left, 0, static_cast<int>(std::min(a.x, b.x) - reach)});
    const int right = std::min({area.right, width_, static_cast<int>(std::max(a.x, b.x) + reach) + 1});
    const int top = std::max({area.top, 0, static_cast<int>(std::min(a.y, b.y) - reach)});
    const int bottom = std::min({area.bottom, height_, static_cast<int>(std::max(a.y, b.y) + reach) + 1});
    const double dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy;
    for (int y = top; y < bottom; ++y)
      for (int x = left; x < right; ++x) {
        const double px = x + 0.5 - a.x, py = y + 0.5 - a.y;
        const double along = length2 > 0 ? std::clamp((px * dx + py * dy) / length2, 0.0, 1.0) : 0.0;
        const double distance = std::hypot(px - along * dx, py - along * dy);
        float& covered = coverage[index(x, y)];
        covered = std::max(covered, static_cast<float>(std::clamp(radius + 0.5 - distance, 0.0, 1.0)));
      }
  }

  int width_, height_;
  std::vector<std::uint8_t> pixels_;
};

}  // namespace ddpm::io::detail
