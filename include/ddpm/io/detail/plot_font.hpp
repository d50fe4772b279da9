// SPDX-License-Identifier: MIT
// The letters of plots: 5x7 pixels and two rows below the line.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace ddpm::io::detail {

inline constexpr int glyph_width = 5;
inline constexpr int glyph_height = 9;    // with the rows below the line
inline constexpr int glyph_baseline = 7;  // rows above it

// Bit 5 * y + x of `pixels` is the pixel in column x of row y.
struct Glyph {
  char letter;
  std::uint64_t pixels;
};

// Sorted by letter.
// clang-format off
inline constexpr std::array<Glyph, 73> glyphs = {{
    {'%', 0x000672222273u}, {'(', 0x000208210888u}, {')', 0x000088842082u}, {'+', 0x0000084f9080u},
    {',', 0x001108000000u}, {'-', 0x000000070000u}, {'.', 0x000100000000u}, {'/', 0x000042222210u},
    {'0', 0x0003a318c62eu}, {'1', 0x0003884210c4u}, {'2', 0x0007c226422eu}, {'3', 0x0003a306422eu},
    {'4', 0x000211f4a988u}, {'5', 0x0003a3083c3fu}, {'6', 0x0003a317842eu}, {'7', 0x00008442221fu},
    {'8', 0x0003a317462eu}, {'9', 0x0003a10f462eu}, {':', 0x000008000080u}, {'=', 0x000001f07c00u},
    {'A', 0x0004631fc62eu}, {'B', 0x0003e317c62fu}, {'C', 0x0003a210862eu}, {'D', 0x0003e318c62fu},
    {'E', 0x0007c217843fu}, {'F', 0x00004217843fu}, {'G', 0x0003a31e862eu}, {'H', 0x0004631fc631u},
    {'I', 0x00038842108eu}, {'J', 0x00019284211cu}, {'K', 0x000452519531u}, {'L', 0x0007c2108421u},
    {'M', 0x0004631ad771u}, {'N', 0x0004739ace71u}, {'O', 0x0003a318c62eu}, {'P', 0x00004217c62fu},
    {'Q', 0x00059358c62eu}, {'R', 0x00045257c62fu}, {'S', 0x0003e107043eu}, {'T', 0x00010842109fu},
    {'U', 0x0003a318c631u}, {'V', 0x000114a8c631u}, {'W', 0x0004775ac631u}, {'X', 0x000462a22a31u},
    {'Y', 0x000108422a31u}, {'Z', 0x0007c222221fu}, {'_', 0x0007c0000000u}, {'a', 0x0007a3e83800u},
    {'b', 0x0003e318bc21u}, {'c', 0x00078210f800u}, {'d', 0x0007a318fa10u}, {'e', 0x000783f8b800u},
    {'f', 0x000084213c4cu}, {'g', 0x0e87a318f800u}, {'h', 0x00046318bc21u}, {'i', 0x000388421804u},
    {'j', 0x064210843008u}, {'k', 0x00024a32a421u}, {'l', 0x000388421086u}, {'m', 0x00056b5aac00u},
    {'n', 0x00046318bc00u}, {'o', 0x0003a318b800u}, {'p', 0x010be318bc00u}, {'q', 0x1087a318f800u},
    {'r', 0x00004211b400u}, {'s', 0x0003e0e0f800u}, {'t', 0x000304213c42u}, {'u', 0x0007a318c400u},
    {'v', 0x00011518c400u}, {'w', 0x0002ab5ac400u}, {'x', 0x000454454400u}, {'y', 0x0e87a318c400u},
    {'z', 0x0007c4447c00u},
}};
// clang-format on

// Whether the letter is drawn at (x, y) of its cell; letters without a picture are blank.
constexpr bool is_drawn(char letter, int x, int y) {
  const auto* glyph = std::ranges::lower_bound(glyphs, letter, {}, &Glyph::letter);
  return glyph != glyphs.end() && glyph->letter == letter && (glyph->pixels >> (5 * y + x) & 1u) != 0;
}

}  // namespace ddpm::io::detail
