// SPDX-License-Identifier: MIT
// write_report: one HTML page with its pictures inside, which needs no network and no other file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ddpm/io/detail/file.hpp>

namespace ddpm::io {

struct ReportTable {
  std::string title;
  std::vector<std::pair<std::string, std::string>> rows;
};

struct ReportFigure {
  std::string caption;
  std::filesystem::path png;
  bool is_pixel_art = false;  // small pixels, to be shown large and sharp
};

struct Report {
  std::string title;
  std::vector<ReportFigure> figures = {};
  std::vector<ReportTable> tables = {};
};

namespace detail {

inline std::string base64(std::string_view bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t j = 0; j < 3; ++j)
      bits = bits << 8 | (i + j < bytes.size() ? static_cast<std::uint8_t>(bytes[i + j]) : 0u);
    for (std::size_t j = 0; j < 4; ++j)
      out += i + j <= bytes.size() ? digits[bits >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

inline std::string html_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

inline constexpr std::string_view report_style = R"(
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem; font: 16px/1.5 system-ui, sans-serif; color: #18202b; background: #fff }
h1 { font-size: 1.6rem; margin: 0 0 1rem }
h2 { font-size: 1.05rem; margin: 0 0 .4rem }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1.2rem; align-items: start }
figure { margin: 0 }
figcaption { color: #526071; font-size: .9rem; margin-top: .3rem }
img { width: 100%; display: block; border: 1px solid #e1e6ee }
img.sharp { image-rendering: pixelated }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1.2rem 2rem; margin-top: 1.8rem; align-items: start }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
td { border-top: 1px solid #e1e6ee; padding: .25rem .5rem .25rem 0; vertical-align: top; overflow-wrap: anywhere }
td:first-child { color: #526071; width: 45% }
)";

}  // namespace detail

inline void write_report(const std::filesystem::path& path, const Report& report) {
  constexpr std::size_t largest_picture = std::size_t{1} << 28;
  std::string html = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n<title>" +
                     detail::html_text(report.title) + "</title>\n<style>" +
                     std::string(detail::report_style) + "</style>\n<h1>" + detail::html_text(report.title) +
                     "</h1>\n<div class=\"figures\">\n";
  for (const ReportFigure& figure : report.figures)
    html += std::string("<figure><img ") + (figure.is_pixel_art ? "class=\"sharp\" " : "") + "alt=\"" +
            detail::html_text(figure.caption) + "\" src=\"data:image/png;base64," +
            detail::base64(detail::read_text(figure.png.string(), largest_picture)) + "\"><figcaption>" +
            detail::html_text(figure.caption) + "</figcaption></figure>\n";
  html += "</div>\n<div class=\"tables\">\n";
  for (const ReportTable& table : report.tables) {
    html += "<section><h2>" + detail::html_text(table.title) + "</h2><table>\n";
    for (const auto& [name, value] : table.rows)
      html += "<tr><td>" + detail::html_text(name) + "</td><td>" + detail::html_text(value) + "</td></tr>\n";
    html += "</table></section>\n";
  }
  detail::write_file(path.string(), html + "</div>\n</html>\n");
}

}  // namespace ddpm::io
