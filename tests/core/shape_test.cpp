// SPDX-License-Identifier: MIT
#include <sstream>

#include <ddpm/core/shape.hpp>

#include "catch_shim.hpp"

using namespace ddpm;

TEST_CASE("a shape knows its extents and size", "[shape]") {
  const Shape shape{2, 3, 5};
  CHECK(shape.rank() == 3);
  CHECK(shape[0] == 2);
  CHECK(shape[2] == 5);
  CHECK(shape.numel() == 30);
  CHECK(Shape{}.rank() == 0);
  CHECK(Shape{}.numel() == 0);
  CHECK(Shape{4, 0, 2}.numel() == 0);
  CHECK(Shape{1 << 16, 1 << 16, 4}.numel() == std::int64_t{1} << 34);
  static_assert(Shape{7, 2}.numel() == 14);
}

TEST_CASE("shapes are equal where all extents are", "[shape]") {
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK(Shape{2, 3} != Shape{3, 2});
  CHECK(Shape{2} != Shape{2, 1});
}

TEST_CASE("a shape prints as a list", "[shape]") {
  std::ostringstream out;
  out << Shape{1, 28, 28, 64} << Shape{};
  CHECK(out.str() == "[1, 28, 28, 64][]");
}

TEST_CASE("impossible shapes are refused", "[shape]") {
  CHECK_THROWS_AS((Shape{1, 2, 3, 4, 5}), ShapeError);
  CHECK_THROWS_AS((Shape{2, -1}), ShapeError);
  try {
    Shape{3, -7};
    FAIL("nothing was thrown");
  } catch (const ShapeError& error) {
    CHECK(std::string(error.what()) == "Shape: extent -7 is negative");
  }
}
