// SPDX-License-Identifier: MIT
#include <ddpm/io/transform.hpp>

#include <vector>

#include "catch_shim.hpp"

using namespace ddpm;

namespace {

using Bytes = std::vector<std::uint8_t>;

io::Image pattern(int height, int width, int channels) {
  io::Image image{{}, height, width, channels};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c)
        image.data.push_back(static_cast<std::uint8_t>(x * x * 7 + y * 13 + x * y * 3 + c * 50));
  return image;
}

}  // namespace

// The expected bytes are those of PIL 13.0: crop, convert and resize with BILINEAR.
TEST_CASE("resized images are those of PIL", "[transform]") {
  const io::Image square = io::center_cropped(pattern(5, 7, 3));
  CHECK(io::resized(square, 3, 3).data == Bytes{23, 73,  123, 75,  125, 175, 160, 210, 113,
                                                51, 101, 151, 110, 160, 166, 169, 138, 69,
                                                78, 128, 178, 145, 162, 188, 97,  85,  87});
  CHECK(io::resized(io::with_channels(square, 1), 3, 3).data ==
        Bytes{64, 116, 184, 92, 146, 139, 119, 160, 88});
  CHECK(io::resized(pattern(3, 3, 1), 5, 5).data ==
        Bytes{0, 3, 7, 20, 28, 5, 9, 13, 27, 36, 13, 17, 23, 37, 47, 21, 25, 33, 48, 58, 26, 31, 39, 55, 66});
  CHECK(io::resized(pattern(13, 13, 1), 4, 4).data ==
        Bytes{48, 127, 127, 127, 97, 127, 122, 124, 135, 124, 128, 131, 145, 133, 134, 117});
  CHECK(io::resized(pattern(5, 7, 3), 3, 3).data == Bytes{16, 66,  116, 79,  129, 164, 162, 160, 100,
                                                          40, 90,  140, 111, 152, 152, 130, 119, 102,
                                                          65, 115, 165, 134, 149, 173, 90,  108, 135});
}

TEST_CASE("a size of its own leaves an image as it is", "[transform]") {
  for (const int channels : {1, 3}) {
    const io::Image image = pattern(7, 11, channels);
    const io::Image same = io::resized(image, 7, 11);
    CHECK(same.data == image.data);
    CHECK(same.height == 7);
    CHECK(same.width == 11);
  }
}

TEST_CASE("a constant image stays constant at every size", "[transform]") {
  for (const int side : {1, 2, 3, 31, 1000})
    for (const int size : {1, 2, 7, 33}) {
      const io::Image image{Bytes(static_cast<std::size_t>(side * side), 255), side, side, 1};
      CHECK(io::resized(image, size, size).data == Bytes(static_cast<std::size_t>(size * size), 255));
    }
}

TEST_CASE("the crop is in the middle", "[transform]") {
  io::Image wide{{1, 2, 3, 4, 5}, 1, 5, 1};
  CHECK(io::center_cropped(wide).data == Bytes{3});
  const io::Image even{{1, 2, 3, 4}, 1, 4, 1};
  CHECK(io::center_cropped(even).data == Bytes{2});
  const io::Image tall{{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 5, 2, 1};
  CHECK(io::center_cropped(tall).data == Bytes{3, 4, 5, 6});
  CHECK(io::center_cropped(pattern(4, 4, 3)).data == pattern(4, 4, 3).data);
}

TEST_CASE("gray and RGB", "[transform]") {
  const io::Image rgb{{255, 0, 0, 0, 255, 0, 0, 0, 255, 200, 100, 50}, 2, 2, 3};
  const io::Image gray = io::with_channels(rgb, 1);
  CHECK(gray.data == Bytes{76, 150, 29, 124});
  CHECK(gray.channels == 1);
  CHECK(io::with_channels(gray, 3).data == Bytes{76, 76, 76, 150, 150, 150, 29, 29, 29, 124, 124, 124});
  CHECK(io::with_channels(rgb, 3).data == rgb.data);
  CHECK_THROWS_AS(io::with_channels(rgb, 2), ShapeError);
  CHECK_THROWS_AS(io::with_channels(rgb, 4), ShapeError);
  CHECK_THROWS_AS(io::resized(rgb, 0, 1), ShapeError);
  CHECK_THROWS_AS(io::resized(rgb, 1, -1), ShapeError);
}
