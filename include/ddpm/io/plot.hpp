// SPDX-License-Identifier: MIT
// write_line_plot: a chart of one curve as a PNG, such as the loss of a training run.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <ddpm/core/error.hpp>
#include <ddpm/io/detail/axis.hpp>
#include <ddpm/io/detail/canvas.hpp>
#include <ddpm/io/image.hpp>

namespace ddpm::io {

struct LinePlotOptions {
  std::string title = {};    // letters, digits and the usual signs of ASCII
  std::string x_label = {};  // below the axis
  std::string y_label = {};  // above the axis
  bool log_y = false;        // values of 0 and less are left out
  double smoothing = 0;  // above 0, below 1: draws the curve pale and its running mean of this memory over it
  int width = 960;
  int height = 540;
};

namespace detail {

// Points that can be drawn, in their order.
struct Curve {
  std::vector<double> xs, ys;
};

// Larger numbers could overflow where a range is computed.
inline bool can_be_drawn(double value) { return std::abs(value) < 1e300; }

inline Curve drawable(std::span<const double> xs, std::span<const double> ys, bool log_y) {
  check(xs.size() == ys.size(), "write_line_plot: ", xs.size(), " x and ", ys.size(),
        " y given, expected as many of one as of the other");
  Curve curve;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    if (!can_be_drawn(xs[i]) || !can_be_drawn(ys[i]) || (log_y && ys[i] <= 0)) continue;
    curve.xs.push_back(xs[i]);
    curve.ys.push_back(ys[i]);
  }
  check(!curve.xs.empty(), "write_line_plot: none of ", xs.size(),
        " points can be drawn, expected at least one");
  return curve;
}

// Exponential running mean, without the pull towards 0 at its start; between the least and the greatest of
// its values.
inline Curve running_mean(const Curve& curve, double memory) {
  Curve means{curve.xs, {}};
  double mean = 0, weight = 0;
  for (const double y : curve.ys) {
    weight = memory * weight + (1 - memory);
    mean += (y - mean) * ((1 - memory) / weight);
    means.ys.push_back(mean);
  }
  return means;
}

class LinePlot {
 public:
  LinePlot(const Curve& curve, const LinePlotOptions& options)
      : options_(options),
        area_{96, options.title.empty() && options.y_label.empty() ? 24 : 70, options.width - 32,
              options.height - (options.x_label.empty() ? 44 : 72)},
        x_(curve.xs, Axis::Scale::linear, 0.0),
        y_(curve.ys, options.log_y ? Axis::Scale::logarithmic : Axis::Scale::linear, 0.05),
        canvas_(options.width, options.height) {
    draw_grid();
    draw_labels();
  }

  void draw(const Curve& curve, double thickness, Color color) {
    constexpr double visible = 0.1;  // pixels: points closer than that cannot be told apart
    std::vector<Point> points;
    for (std::size_t i = 0; i < curve.xs.size(); ++i) {
      const Point point{across(curve.xs[i]), up(curve.ys[i])};
      if (points.empty() || std::hypot(point.x - points.back().x, point.y - points.back().y) > visible)
        points.push_back(point);
    }
    canvas_.polyline(points, thickness, color, {area_.left, area_.top, area_.right + 3, area_.bottom});
  }

  Pixels image() const { return canvas_.image(); }

 private:
  static constexpr Color ink{60, 64, 72}, pale_ink{228, 231, 236}, title_ink{24, 26, 32};

  double across(double x) const { return area_.left + x_.position(x) * (area_.right - area_.left); }
  double up(double y) const { return area_.bottom - y_.position(y) * (area_.bottom - area_.top); }

  void draw_grid() {
    constexpr int per_x_tick = 90, per_y_tick = 45;  // pixels
    for (const double tick : y_.ticks(std::max(2, (area_.bottom - area_.top) / per_y_tick))) {
      const int y = static_cast<int>(std::lround(up(tick)));
      canvas_.fill({area_.left, y, area_.right, y + 1}, pale_ink);
      canvas_.text(tick_label(tick), {area_.left - 10, y, TextAlign::right}, ink);
    }
    for (const double tick : x_.ticks(std::max(2, (area_.right - area_.left) / per_x_tick))) {
      const int x = static_cast<int>(std::lround(across(tick)));
      canvas_.fill({x, area_.top, x + 1, area_.bottom}, pale_ink);
      canvas_.fill({x, area_.bottom, x + 1, area_.bottom + 6}, ink);
      canvas_.text(tick_label(tick), {x, area_.bottom + 20, TextAlign::center}, ink);
    }
    canvas_.fill({area_.left - 1, area_.top, area_.left, area_.bottom + 1}, ink);
    canvas_.fill({area_.left - 1, area_.bottom, area_.right, area_.bottom + 1}, ink);
  }

  void draw_labels() {
    const int middle = (area_.left + area_.right) / 2;
    canvas_.text(options_.title, {middle, 24, TextAlign::center}, title_ink);
    canvas_.text(options_.x_label, {middle, options_.height - 20, TextAlign::center}, ink);
    canvas_.text(options_.y_label, {16, 50, TextAlign::left}, ink);
  }

  LinePlotOptions options_;
  Rectangle area_;
  Axis x_, y_;
  Canvas canvas_;
};

}  // namespace detail

// ys over xs, in the order given. Points that are not finite are left out.
inline void write_line_plot(const std::filesystem::path& path, std::span<const double> xs,
                            std::span<const double> ys, const LinePlotOptions& options = {}) {
  constexpr int smallest_side = 160, largest_side = 8192;
  check(std::min(options.width, options.height) >= smallest_side &&
            std::max(options.width, options.height) <= largest_side,
        "write_line_plot: a plot of ", options.width, "x", options.height, " asked for, expected sides from ",
        smallest_side, " to ", largest_side);
  check(options.smoothing >= 0 && options.smoothing < 1, "write_line_plot: smoothing is ", options.smoothing,
        ", expected a number from 0 to below 1");
  constexpr detail::Color strong{31, 102, 178}, pale{186, 211, 236};
  const detail::Curve curve = detail::drawable(xs, ys, options.log_y);
  detail::LinePlot plot(curve, options);
  if (options.smoothing > 0) {
    plot.draw(curve, 1.5, pale);
    plot.draw(detail::running_mean(curve, options.smoothing), 2.5, strong);
  } else {
    plot.draw(curve, 2, strong);
  }
  write_png(path, plot.image());
}

}  // namespace ddpm::io
