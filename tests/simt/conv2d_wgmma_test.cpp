// SPDX-License-Identifier: MIT
// Convolutions of bf16 by wgmma: kernels against Reference, and what they ask of memory.
#include "conv2d_problem.hpp"
#include "conv2d_wgmma_kernels.hpp"

using namespace ddpm;
using namespace ddpm::simt;
using ddpm::kernels::choose_wgmma_tile;
using ddpm::kernels::choose_wgmma_weight;
using ddpm::kernels::is_box;
using ddpm::kernels::shares_taps;
using ddpm::kernels::size_of;
using ddpm::kernels::WgmmaChoice;
using ddpm::simt::kernels::WgmmaTile;

namespace {

constexpr WgmmaTile tiles[] = {WgmmaTile::square, WgmmaTile::tall, WgmmaTile::wide};  // of all passes

void check_forward(Problem<bf16>& p, WgmmaTile tile, int blocks = 1) {
  INFO(simt::name(p.g) << ", shifted " << p.shifted << ", present " << p.present << ", tile "
                       << static_cast<int>(tile));
  simt::kernels::run_with(tile, p.forward(on_device), blocks);
  CHECK(error_of(p.y) < tolerance);
  if (p.present & Which::moments) CHECK(error_of_moments(p) < tolerance);
}

void check_backward(Problem<bf16>& p, WgmmaTile tile) {
  INFO(simt::name(p.g) << ", shifted " << p.shifted << ", tile " << static_cast<int>(tile));
  simt::kernels::run_with(tile, p.backward_data(on_device));
  CHECK(error_of(p.dx) < tolerance);
  if (p.g.c2) CHECK(error_of(p.dx2) < tolerance);
}

void check_weight(Problem<bf16>& p, WgmmaTile tile, int parts) {
  INFO(simt::name(p.g) << ", tile " << static_cast<int>(tile) << ", parts " << parts);
  p.dweight.restore();
  p.dbias.restore();
  simt::kernels::run_with(tile, parts, p.backward_weight(on_device));
  CHECK(error_of(p.dweight) < gradient_tolerance);
  CHECK(error_of(p.dbias) < gradient_tolerance);
}

constexpr Conv2dOptions upsampled(int pad_begin, int pad_end) {
  return {.pad_begin = pad_begin, .pad_end = pad_end, .upsample = 2};
}

constexpr Conv2dOptions late{.pad_begin = 0, .pad_end = 2}, early{.pad_begin = 1, .pad_end = 0};

// Boxes of one row, of part of it, of rows and of images, which end within a tile; more slices than stages; tiles
// that end within channels.
const std::vector<Conv2dGeometry> geometries = {
    geometry({1, 4, 32, 64, 0}, 64, 3, {}),
    geometry({5, 4, 4, 64, 64}, 192, 3, {}),
    geometry({1, 2, 128, 64, 0}, 128, 1, no_padding),
    geometry({2, 1, 512, 64, 0}, 64, 1, no_padding),
    geometry({3, 8, 8, 64, 0}, 64, 3, late),
    geometry({1, 16, 16, 64, 0}, 64, 2, early),
    geometry({130, 1, 1, 128, 64}, 128, 1, no_padding),
    geometry({1, 10, 18, 64, 0}, 64, 3, no_padding),  // a box of y alone
    geometry({1, 8, 16, 64, 0}, 64, 3, no_padding),   // and of x alone
    geometry({1, 8, 32, 64, 0}, 64, 3, {}),           // strips of an image
    geometry({2, 16, 8, 64, 0}, 64, 3, {}),           // and of two
};

// Strips of an image and of several, either class the first, and no strips; two tensors; an even kernel; boxes of y alone
// and of x alone.
const std::vector<std::pair<WgmmaTile, Conv2dGeometry>> upsampled_geometries = {
    {WgmmaTile::square, geometry({1, 8, 16, 64, 0}, 64, 3, upsampled(1, 1))},
    {WgmmaTile::tall, geometry({3, 8, 8, 64, 64}, 64, 3, upsampled(0, 2))},
    {WgmmaTile::square, geometry({3, 4, 4, 64, 0}, 192, 3, upsampled(1, 1))},
    {WgmmaTile::wide, geometry({1, 4, 32, 64, 0}, 64, 2, upsampled(1, 0))},
    {WgmmaTile::square, geometry({1, 8, 16, 64, 0}, 64, 1, upsampled(0, 0))},
    {WgmmaTile::square, geometry({1, 9, 17, 64, 0}, 64, 3, upsampled(0, 0))},
    {WgmmaTile::square, geometry({1, 8, 16, 64, 0}, 64, 3, upsampled(0, 0))},
};

// Slices that are part of a row, rows, images and more than there are; channels that end within a tile and within 64
// of y, tensors and taps that do.
const std::vector<Conv2dGeometry> weight_geometries = {
    geometry({1, 1, 64, 64, 0}, 8, 1, no_padding),
    geometry({130, 1, 1, 128, 64}, 136, 1, no_padding),
    geometry({5, 4, 4, 64, 64}, 64, 2, {.pad_begin = 0, .pad_end = 1}),
    geometry({1, 2, 32, 64, 0}, 264, 1, no_padding),
    geometry({1, 10, 18, 64, 0}, 64, 3, no_padding),
    geometry({1, 1, 384, 64, 0}, 72, 1, no_padding),
};

// And where taps share strips: of part of an image, of one and of two, whose last are missing; channels that end within
// a tile, of two tensors; boxes of y alone and of x alone.
const std::vector<Conv2dGeometry> geometries_of_taps = {
    geometry({1, 8, 32, 64, 0}, 8, 3, {}),
    geometry({2, 16, 8, 64, 64}, 136, 3, {}),
    geometry({3, 8, 8, 64, 0}, 64, 3, late),
    geometry({3, 4, 16, 64, 0}, 64, 3, {}),
    geometry({1, 10, 18, 64, 0}, 64, 3, no_padding),
    geometry({2, 8, 16, 64, 0}, 64, 3, {.pad_begin = 2, .pad_end = 0}),
};

// Slices of a class that are rows, images and part of a row; channels that end within a tile and within 64 of y, where
// those of the next column begin; either class the first.
const std::vector<Conv2dGeometry> upsampled_weight_geometries = {
    geometry({1, 16, 8, 64, 0}, 72, 3, upsampled(1, 1)), geometry({5, 4, 4, 64, 64}, 136, 3, upsampled(1, 1)),
    geometry({1, 2, 128, 64, 0}, 8, 3, upsampled(0, 2)), geometry({3, 8, 8, 64, 0}, 64, 3, upsampled(2, 0)),
    geometry({1, 9, 9, 64, 0}, 64, 3, upsampled(0, 0)),
};

// Whose slices outnumber the stages.
Problem<bf16> deep_forward() {
  return {.g = geometry({3, 8, 8, 64, 256}, 64, 1, no_padding), .present = Which::all | Which::moments};
}
Problem<bf16> deep_backward() { return {.g = geometry({3, 8, 8, 64, 64}, 320, 1, no_padding)}; }
Problem<bf16> deep_weight() { return {.g = geometry({1, 1, 640, 64, 0}, 64, 1, no_padding)}; }
Problem<bf16> deep_weight_of_taps() { return {.g = geometry({7, 8, 16, 64, 0}, 64, 3, {})}; }

}  // namespace

TEST_CASE("wgmma computes convolutions of every shape by every tile") {
  for (const Conv2dGeometry& g : geometries) {
    Problem<bf16> p{.g = g, .present = Which::all | Which::moments};
    launch(Reference{}, p.forward(on_host));
    launch(Reference{}, p.backward_data(on_host));
    for (const WgmmaTile tile : tiles) {
      if (is_box(size_of(tile).rows, g.p, g.q)) check_forward(p, tile);
      if (is_box(size_of(tile).rows, g.h, g.w)) check_backward(p, tile);
    }
  }
}

TEST_CASE("wgmma computes convolutions of few channels by narrow tiles") {
  Problem<bf16> few{.g = geometry({1, 8, 32, 64, 64}, 3, 3, {}), .present = Which::all | Which::moments};
  launch(Reference{}, few.forward(on_host));
  check_forward(few, WgmmaTile::narrow);
  Problem<bf16> both{.g = geometry({5, 8, 8, 64, 0}, 64, 3, late), .present = Which::all | Which::moments};
  launch(Reference{}, both.forward(on_host));
  launch(Reference{}, both.backward_data(on_host));
  check_forward(both, WgmmaTile::narrow);
  check_backward(both, WgmmaTile::narrow);
}

TEST_CASE("wgmma computes upsampled convolutions") {
  for (const auto& [tile, g] : upsampled_geometries) {
    Problem<bf16> p{.g = g, .present = Which::all | Which::moments};
    launch(Reference{}, p.forward(on_host));
    launch(Reference{}, p.backward_data(on_host));
    if (is_box(size_of(tile).rows, g.p / 2, g.q / 2)) check_forward(p, tile, 3);
    if (is_box(size_of(tile).rows, g.h, g.w)) check_backward(p, tile);
  }
}

TEST_CASE("wgmma computes gradients of weights of every shape by every tile") {
  for (const Conv2dGeometry& g : weight_geometries) {
    Problem<bf16> p{.g = g};
    launch(Reference{}, p.backward_weight(on_host));
    for (const WgmmaTile tile : tiles)
      for (const int parts : {1, 2}) check_weight(p, tile, parts);
  }
}

TEST_CASE("wgmma computes gradients of the weights of taps that share strips") {
  for (const Conv2dGeometry& g : geometries_of_taps) {
    REQUIRE(shares_taps(g));
    Problem<bf16> p{.g = g};
    launch(Reference{}, p.backward_weight(on_host));
    for (const int parts : {1, 2}) check_weight(p, WgmmaTile::taps, parts);
  }
}

TEST_CASE("wgmma computes gradients of the weights of upsampled convolutions") {
  for (const Conv2dGeometry& g : upsampled_weight_geometries) {
    Problem<bf16> p{.g = g};
    launch(Reference{}, p.backward_weight(on_host));
    for (const int parts : {4, 8}) check_weight(p, WgmmaTile::square, parts);
  }
  Problem<bf16> p{.g = upsampled_weight_geometries[1], .present = none};
  launch(Reference{}, p.backward_weight(on_host));
  for (const WgmmaTile tile : {WgmmaTile::tall, WgmmaTile::wide}) {
    p.dweight.restore();
    simt::kernels::run_with(tile, 4, p.backward_weight(on_device));
    CHECK(error_of(p.dweight) < gradient_tolerance);
  }
}

TEST_CASE("wgmma computes a part of the pixels that holds none") {
  Problem<bf16> p{.g = geometry({1, 1, 320, 64, 0}, 64, 1, no_padding)};  // 2, 2, 1 and no slices
  launch(Reference{}, p.backward_weight(on_host));
  check_weight(p, WgmmaTile::square, 4);
  Problem<bf16> of_taps{.g = geometry({5, 8, 16, 64, 0}, 64, 3, {})};
  launch(Reference{}, of_taps.backward_weight(on_host));
  check_weight(of_taps, WgmmaTile::taps, 4);
}

TEST_CASE("wgmma writes results of any alignment, any number of channels and with any operands") {
  for (const unsigned present : {0u, 16u, 32u, 64u, 255u}) {
    Problem<bf16> p{.g = geometry({1, 4, 32, 64, 0}, 12, 1, no_padding), .present = present};
    launch(Reference{}, p.forward(on_host));
    check_forward(p, WgmmaTile::square);
  }
  Problem<bf16> p{.g = geometry({1, 4, 32, 64, 8}, 64, 1, no_padding), .shifted = Which::x | Which::x2};
  launch(Reference{}, p.backward_data(on_host));
  check_backward(p, WgmmaTile::square);
}

TEST_CASE("wgmma gives the same bits under every schedule") {
  Problem<bf16> forward = deep_forward(), backward = deep_backward(), weight = deep_weight();
  launch(Reference{}, forward.forward(on_host));
  launch(Reference{}, backward.backward_data(on_host));
  launch(Reference{}, weight.backward_weight(on_host));
  for (const WgmmaTile tile : tiles) {
    run_everywhere_alike(
        [&] {
          simt::kernels::run_with(tile, forward.forward(on_device));
          simt::kernels::run_with(tile, backward.backward_data(on_device));
          simt::kernels::run_with(tile, 2, weight.backward_weight(on_device));
        },
        forward.y, forward.moments, backward.dx, backward.dx2, weight.dweight, weight.dbias);
    CHECK(error_of(forward.y) < tolerance);
    CHECK(error_of(backward.dx) < tolerance);
    CHECK(error_of(backward.dx2) < tolerance);
    CHECK(error_of(weight.dweight) < gradient_tolerance);
    CHECK(error_of(weight.dbias) < gradient_tolerance);
  }
}

TEST_CASE("wgmma gives the same bits for taps that share strips, and for classes, under every schedule") {
  Problem<bf16> taps = deep_weight_of_taps(), classes{.g = upsampled_weight_geometries[0]};
  launch(Reference{}, taps.backward_weight(on_host));
  launch(Reference{}, classes.backward_weight(on_host));
  run_everywhere_alike(
      [&] {
        simt::kernels::run_with(WgmmaTile::taps, 2, taps.backward_weight(on_device));
        simt::kernels::run_with(WgmmaTile::square, 8, classes.backward_weight(on_device));
      },
      taps.dweight, taps.dbias, classes.dweight, classes.dbias);
  for (Problem<bf16>* p : {&taps, &classes}) {
    CHECK(error_of(p->dweight) < gradient_tolerance);
    CHECK(error_of(p->dbias) < gradient_tolerance);
  }
}

TEST_CASE("wgmma multiplies what it must, copies it once and meets no bank conflicts", "[executor]") {
  for (const WgmmaTile tile : tiles) {
    const auto [rows, columns, depth] = size_of(tile);
    Problem<bf16> p{.g = geometry({1, 2, rows, 64, 64}, columns, 1, no_padding), .present = none};
    const auto check_conflicts = [&] {
      INFO("tile " << rows << " x " << columns);
      CHECK(counters().shared_loads.bank_conflicts == 0);
      CHECK(counters().shared_stores.bank_conflicts == 0);
    };
    const auto check_traffic = [&](int channels_read, std::int64_t copies_of_slice) {
      const std::int64_t slices = 2 * channels_read / depth;  // of both tiles
      CHECK(counters().matrix_instructions == slices * (rows / 64) * (depth / 16));
      CHECK(counters().bulk_copies == slices * copies_of_slice);
      CHECK(counters().global_stores.sectors * sector_bytes == counters().global_stores.bytes);
      check_conflicts();
    };
    simt::kernels::run_with(tile, p.forward(on_device));
    check_traffic(128, 2);
    simt::kernels::run_with(tile, p.backward_data(on_device));
    check_traffic(columns, 1 + columns / 64);
    p.present = Which::all | Which::moments;
    simt::kernels::run_with(tile, p.forward(on_device));
    check_conflicts();
  }
}

TEST_CASE("wgmma copies pixels once for taps above each other", "[executor]") {
  Problem<bf16> p{.g = geometry({1, 16, 16, 64, 0}, 128, 3, {}), .present = none};
  constexpr std::int64_t tiles = 2, columns_of_taps = 3, taps = 9;
  simt::kernels::run_with(WgmmaTile::square, p.forward(on_device));
  CHECK(counters().bulk_copies == tiles * (columns_of_taps + taps));
  CHECK(counters().matrix_instructions == tiles * taps * 2 * 4);
  simt::kernels::run_with(WgmmaTile::square, p.backward_data(on_device));
  CHECK(counters().bulk_copies ==
        tiles * 2 * (columns_of_taps + 2 * taps));  // of twice the depth, in boxes of 64
  CHECK(counters().matrix_instructions == tiles * 2 * taps * 2 * 4);
}

TEST_CASE("wgmma copies pixels once for taps of an upsampled convolution above each other", "[executor]") {
  Problem<bf16> p{.g = geometry({1, 8, 16, 64, 0}, 128, 3, upsampled(1, 1)), .present = none};
  constexpr std::int64_t classes = 4, columns_of_taps = 3, taps = 9;
  simt::kernels::run_with(WgmmaTile::square, p.forward(on_device));
  CHECK(counters().bulk_copies == classes * (columns_of_taps + taps));
  CHECK(counters().matrix_instructions == classes * taps * 2 * 4);
  CHECK(counters().global_stores.sectors * sector_bytes == counters().global_stores.bytes);
  simt::kernels::run_with(WgmmaTile::square, p.backward_data(on_device));
  CHECK(counters().bulk_copies ==
        2 * classes * (columns_of_taps + 2 * taps));  // of twice the depth, in boxes of 64
  CHECK(counters().matrix_instructions == 2 * classes * taps * 2 * 4);
}

TEST_CASE("wgmma multiplies and copies for gradients of weights what it must", "[executor]") {
  for (const WgmmaTile tile : tiles) {
    const auto [rows, columns, depth] = size_of(tile);
    INFO("tile " << rows << " x " << columns);
    Problem<bf16> p{.g = geometry({1, 2, 128, columns / 2, columns / 2}, rows, 1, no_padding),
                    .present = none};
    const std::int64_t slices = 256 / depth;
    for (const int parts : {1, 2}) {
      Executor::instance().sum = {};
      simt::kernels::run_with(tile, parts, p.backward_weight(on_device));
      const Counters& sum = Executor::instance().sum;
      CHECK(sum.matrix_instructions == slices * (rows / 64) * (depth / 16));
      CHECK(sum.bulk_copies == slices * (rows + columns) / 64);
      CHECK(sum.global_stores.sectors * sector_bytes == sum.global_stores.bytes);
      CHECK(sum.shared_loads.bank_conflicts == 0);
      CHECK(sum.shared_stores.bank_conflicts == 0);
      if (parts > 1) continue;
      const std::int64_t gradient = std::int64_t{sizeof(float)} * rows * columns;
      CHECK(sum.global_stores.bytes == gradient);
      CHECK(sum.global_loads.bytes == gradient + 2 * slices * depth * (rows + columns));
    }
    p.present = Which::bias;  // is summed from the slices
    Executor::instance().sum = {};
    simt::kernels::run_with(tile, 1, p.backward_weight(on_device));
    CHECK(Executor::instance().sum.bulk_copies == slices * (rows + columns) / 64);
    CHECK(Executor::instance().sum.shared_loads.bank_conflicts == 0);
  }
}

TEST_CASE("wgmma copies pixels once for the gradients of weights above each other", "[executor]") {
  Problem<bf16> p{.g = geometry({1, 16, 16, 64, 0}, 128, 3, {}), .present = none};
  constexpr std::int64_t slices = 2, columns_of_taps = 3;
  Executor::instance().sum = {};
  simt::kernels::run_with(WgmmaTile::taps, 1, p.backward_weight(on_device));
  const Counters& sum = Executor::instance().sum;
  CHECK(sum.bulk_copies == slices * columns_of_taps * (2 + 1));
  CHECK(sum.matrix_instructions == slices * columns_of_taps * 2 * 8);
  CHECK(sum.global_stores.sectors * sector_bytes == sum.global_stores.bytes);
  p.present = Which::bias;
  simt::kernels::run_with(WgmmaTile::taps, 1, p.backward_weight(on_device));
  CHECK(sum.shared_loads.bank_conflicts == 0);
}

TEST_CASE("wgmma multiplies 4 of 9 times for the gradients of upsampled weights", "[executor]") {
  Problem<bf16> p{.g = geometry({1, 8, 16, 64, 0}, 128, 3, upsampled(1, 1)), .present = none};
  constexpr std::int64_t slices = 4 * 2, column_tiles = 2;
  Executor::instance().sum = {};
  simt::kernels::run_with(WgmmaTile::square, 4, p.backward_weight(on_device));
  const Counters& sum = Executor::instance().sum;
  CHECK(sum.matrix_instructions == slices * column_tiles * 2 * 4);
  CHECK(sum.bulk_copies == slices * column_tiles * 4);
}

TEST_CASE("wgmma takes what its tiles are cut from without rest") {
  // Of the three passes, by their first letters.
  const auto passes = [](Problem<bf16> p) {
    std::string found;
    if (simt::kernels::supports_wgmma(p.forward(on_device))) found += "f";
    if (simt::kernels::supports_wgmma(p.backward_data(on_device))) found += "d";
    if (simt::kernels::supports_wgmma(p.backward_weight(on_device))) found += "w";
    return found;
  };
  const auto takes = [&](const Images& x, int cout, const Conv2dOptions& options, unsigned shifted) {
    return passes({.g = geometry(x, cout, 1, options), .shifted = shifted});
  };
  const auto takes_upsampled = [&](int h, int w, int kernel, const Conv2dOptions& options) {
    return passes({.g = geometry({1, h, w, 64, 64}, 128, kernel, options)});
  };
  const Images x{1, 2, 2, 64, 64};
  if (!Executor::counts && takes(x, 128, no_padding, none).empty()) return;  // a GPU without wgmma
  CHECK(takes(x, 128, no_padding, none) == "fdw");
  CHECK(takes({1, 2, 2, 64, 128}, 64, no_padding, none) == "fw");
  CHECK(takes({1, 2, 2, 128, 0}, 64, no_padding, none) == "fdw");
  CHECK(takes({1, 2, 2, 128, 0}, 96, no_padding, none) == "w");
  CHECK(takes({1, 2, 2, 64, 0}, 8, no_padding, none) == "fw");
  CHECK(takes({1, 2, 2, 64, 0}, 4, no_padding, none) == "f");
  CHECK(takes({1, 12, 32, 64, 0}, 64, no_padding, none) == "w");  // boxes of 128 pixels, but not of 256
  CHECK(takes({1, 2, 2, 96, 32}, 128, no_padding, none) == "d");
  CHECK(takes({1, 2, 2, 64, 32}, 128, no_padding, none).empty());
  CHECK(takes({1, 2, 2, 96, 0}, 128, no_padding, none).empty());
  CHECK(takes({1, 2, 2, 124, 4}, 128, no_padding, none).empty());
  CHECK(takes({1, 2, 3, 64, 64}, 128, no_padding, none).empty());
  CHECK(takes({1, 3, 2, 64, 64}, 128, no_padding, none).empty());
  CHECK(takes({1, 6, 32, 64, 64}, 128, no_padding, none) == "w");  // boxes of 64 pixels, but not of 128
  CHECK(takes({1, 1, 3, 64, 64}, 128, {.pad_begin = 0, .pad_end = 1}, none) == "fw");
  CHECK(takes({1, 1, 4, 64, 64}, 128, {.pad_begin = 1, .pad_end = 1}, none) == "d");
  CHECK(takes(x, 128, {.stride = 2, .pad_begin = 0, .pad_end = 0}, none).empty());
  CHECK(takes_upsampled(2, 2, 3, upsampled(1, 1)) == "fdw");
  CHECK(takes_upsampled(2, 2, 3, upsampled(0, 2)) == "fdw");
  CHECK(takes_upsampled(2, 2, 1, upsampled(0, 0)) == "fd");
  CHECK(takes_upsampled(4, 4, 5, upsampled(2, 2)) == "fd");
  CHECK(takes_upsampled(2, 2, 3, upsampled(1, 0)).empty());
  CHECK(takes_upsampled(4, 3, 3, upsampled(1, 1)).empty());
  CHECK(takes_upsampled(3, 4, 3, upsampled(1, 1)).empty());
  CHECK(takes_upsampled(3, 3, 3, upsampled(0, 0)) == "fw");
  CHECK(takes_upsampled(4, 4, 3, upsampled(0, 0)) == "d");
  CHECK(takes(x, 128, no_padding, Which::x) == "d");
  CHECK(takes(x, 128, no_padding, Which::x2) == "d");
  CHECK(takes(x, 128, no_padding, Which::y) == "f");
  CHECK(takes(x, 128, no_padding, Which::weight).empty());
  Conv2dForward<bf16> forward{};
  Conv2dBackwardWeight<bf16> weight{};
  for (const Conv2dGeometry& empty : {Conv2dGeometry{}, geometry({0, 2, 2, 64, 0}, 128, 1, no_padding),
                                      geometry({1, 2, 2, 64, 0}, 0, 1, no_padding)}) {
    INFO(simt::name(empty));
    forward.shape = weight.shape = empty;
    CHECK_FALSE(simt::kernels::supports_wgmma(forward));
    CHECK_FALSE(simt::kernels::supports_wgmma(weight));
  }
}

TEST_CASE("images are cut into boxes of pixels") {
  const auto is = [](int pixels, int h, int w, const std::vector<int>& box) {
    const auto [box_w, box_h, n] = ddpm::kernels::pixel_box(pixels, h, w);
    return is_box(pixels, h, w) && std::vector<int>{box_w, box_h, n} == box;
  };
  CHECK(is(128, 32, 32, {32, 4, 1}));
  CHECK(is(128, 16, 16, {16, 8, 1}));
  CHECK(is(128, 8, 8, {8, 8, 2}));
  CHECK(is(128, 4, 4, {4, 4, 8}));
  CHECK(is(128, 1, 1, {1, 1, 128}));
  CHECK(is(128, 7, 384, {128, 1, 1}));
  CHECK(is(128, 12, 32, {32, 4, 1}));
  CHECK(is(256, 3, 256, {256, 1, 1}));
  CHECK_FALSE(is_box(128, 6, 32));
  CHECK_FALSE(is_box(128, 3, 32));
  CHECK_FALSE(is_box(128, 4, 24));
  CHECK_FALSE(is_box(128, 4, 192));
  CHECK_FALSE(is_box(256, 7, 384));
  CHECK_FALSE(is_box(128, 3, 3));
}

TEST_CASE("pixels under taps above each other are copied as one strip where it is whole lines and fits") {
  const auto is = [](WgmmaTile tile, int kernel, int size, int taps, int lines) {
    const auto strip = ddpm::kernels::pixel_strip(tile, kernel, size, size);
    return strip.taps == taps && strip.lines() == lines;
  };
  CHECK(is(WgmmaTile::square, 3, 32, 3, 6 * 32));
  CHECK(is(WgmmaTile::tall, 3, 32, 3, 10 * 32));
  CHECK(is(WgmmaTile::wide, 3, 16, 3, 10 * 16));
  CHECK(is(WgmmaTile::tall, 3, 8, 3, 4 * 10 * 8));
  CHECK(is(WgmmaTile::square, 5, 8, 5, 2 * 12 * 8));
  CHECK(is(WgmmaTile::square, 1, 32, 1, 128));
  CHECK(is(WgmmaTile::square, 5, 32, 1, 128));  // of 256 lines
  CHECK(is(WgmmaTile::tall, 3, 64, 1, 256));    // of 384
  CHECK(is(WgmmaTile::square, 2, 4, 1, 128));   // four images would be in 64 lines
  CHECK(ddpm::kernels::pixel_strip(WgmmaTile::square, 2, 32, 4).taps == 1);
  CHECK(ddpm::kernels::pixel_strip(WgmmaTile::square, 2, 4, 8).taps == 1);  // images of 32 lines
  const auto is_doubled = [](WgmmaTile tile, int kernel, int size, int taps, int lines) {
    const auto strip = ddpm::kernels::pixel_strip(tile, kernel, size, size, 1);
    return strip.taps == taps && strip.lines() == lines;
  };
  CHECK(is_doubled(WgmmaTile::tall, 3, 16, 3, 17 * 16));
  CHECK(is_doubled(WgmmaTile::square, 5, 32, 5, 6 * 32));
  CHECK(is_doubled(WgmmaTile::square, 1, 32, 1, 128));
  CHECK(is_doubled(WgmmaTile::square, 3, 4, 1, 128));
}

TEST_CASE("taps share strips of pixels for the gradient of a weight where slices have some") {
  const auto shares = [](int h, int w, int kernel) {
    return shares_taps({1, h, w, 64, 0, 64, kernel, 1, 1, 1, 1, h, w});
  };
  CHECK(shares(32, 32, 3));
  CHECK(shares(8, 8, 3));
  CHECK(shares(4, 16, 3));
  CHECK_FALSE(shares(32, 32, 1));
  CHECK_FALSE(shares(8, 8, 5));
  CHECK_FALSE(shares(4, 4, 3));
  CHECK_FALSE(shares(64, 64, 3));  // 256 lines
  CHECK_FALSE(shares(6, 32, 3));
}

TEST_CASE("tiles of wgmma are those that take the least time") {
  const auto choice = [](int n, int size, int columns) {
    return choose_wgmma_tile({132, 90}, {std::int64_t{n} * size * size, columns, 64}, size, size);
  };
  CHECK(choice(128, 32, 128) == WgmmaTile::tall);
  CHECK(choice(128, 32, 256) == WgmmaTile::tall);
  CHECK(choice(128, 16, 256) == WgmmaTile::tall);
  CHECK(choice(128, 8, 256) == WgmmaTile::square);
  CHECK(choice(1, 4, 128) == WgmmaTile::square);
  CHECK(choice(1, 4, 65) == WgmmaTile::square);
  CHECK(choice(128, 32, 64) == WgmmaTile::narrow);
  CHECK(choose_wgmma_tile({132, 90}, {384 * 384, 256, 64}, 384, 384) == WgmmaTile::wide);  // of no tall boxes
}

TEST_CASE("wgmma cuts the pixels of a weight's gradient into as many parts as fill the GPU") {
  const auto choice = [](int n, int size, int c, int cout) {
    return choose_wgmma_weight({132, 90}, {n, size, size, c, 0, cout, 3, 1, 1, 1, 1, size, size});
  };
  const auto is = [](const WgmmaChoice& choice, WgmmaTile tile, int parts) {
    return choice.tile == tile && choice.parts == parts;
  };
  CHECK(is(choice(128, 32, 128, 128), WgmmaTile::taps, 132 / 6));
  CHECK(is(choice(128, 16, 256, 256), WgmmaTile::taps, 132 / 24));
  CHECK(is(choice(128, 4, 256, 256), WgmmaTile::square, 132 / 36));
  const Conv2dGeometry up = geometry({128, 16, 16, 256, 0}, 256, 3, upsampled(1, 1));
  CHECK(is(choose_wgmma_weight({132, 90}, up), WgmmaTile::tall, 132 / 8));
  CHECK(is(choice(128, 16, 512, 256), WgmmaTile::taps,
           3 * 132 / 48));  // three waves are filled better than one
  CHECK(is(choice(128, 8, 512, 256), WgmmaTile::taps, 2 * 132 / 48));  // whose parts L2 would not keep
  CHECK(is(choice(1, 8, 128, 128), WgmmaTile::square, 1));             // too few pixels
}
