// SPDX-License-Identifier: MIT
// Which kernels a training step of the CIFAR-10 U-Net in bf16 is computed by, and its products in float, on GPUs that
// are not here.
#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "catch_shim.hpp"

#include "executor.hpp"
#include "planned_gpu.hpp"

using namespace ddpm;
using namespace ddpm::simt;
using ddpm::kernels::choose_mma_tile;
using ddpm::kernels::choose_mma_weight;
using ddpm::kernels::MmaChoice;
using ddpm::kernels::MmaTile;

namespace {

struct Gpu {
  const char* name;
  GpuProperties properties;
};
constexpr Gpu gpus[] = {{"A100", {108, 80, 163 << 10}},
                        {"H100 without wgmma", {132, 80, 227 << 10}},
                        {"H100", {132, 90, 227 << 10}},
                        {"RTX 4090", {128}}};
constexpr GpuProperties a100 = gpus[0].properties, h100 = gpus[1].properties, rtx4090 = gpus[3].properties;
constexpr int batches[] = {16, 64, 128};

// Calls use(gpu, batch, ops) for each; a kernel that asks for more shared memory than there is throws.
template <class Use>
void for_each_plan(Use use) {
  for (const Gpu& gpu : gpus)
    for (const int batch : batches) {
      INFO(gpu.name << ", batch " << batch);
      Executor::instance().limits.shared_bytes = static_cast<std::size_t>(gpu.properties.shared_bytes);
      use(gpu.properties, batch, plan_training_step(gpu.properties, UNetConfig::cifar10(), batch));
      Executor::instance().limits = {};
    }
}

bool begins_with(const std::string& text, const std::string& part) { return text.rfind(part, 0) == 0; }

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

ConvolutionPass pass_of(const PlannedOp& op) {
  if (contains(op.name, "Weight")) return ConvolutionPass::backward_weight;
  return contains(op.name, "Data") ? ConvolutionPass::backward_data : ConvolutionPass::forward;
}

bool has_kernel(const PlannedOp& op, const std::string& part) {
  return std::any_of(op.kernels.begin(), op.kernels.end(),
                     [&](const PlannedKernel& k) { return contains(k.name, part); });
}

std::string kernels_of(const PlannedOp& op) {
  std::string all = op.name + " " + op.shape + ":";
  for (const PlannedKernel& kernel : op.kernels) all += " " + kernel.name;
  return all;
}

bool is_image(const Conv2dGeometry& g) { return g.channels() == 3 || g.cout == 3; }

// Tiles that fill the GPU: the part of the time in which no multiprocessor waits for the last ones.
double filled(const GpuProperties& gpu, std::int64_t blocks) {
  const std::int64_t waves = (blocks + gpu.multiprocessors - 1) / gpu.multiprocessors;
  return static_cast<double>(blocks) / static_cast<double>(waves * gpu.multiprocessors);
}

}  // namespace

TEST_CASE(
    "every product of the U-Net is on tensor cores, every norm moves vectors, nothing is only added or "
    "cast") {
  for_each_plan([](const GpuProperties&, int, const std::vector<PlannedOp>& ops) {
    std::map<std::string, int> seen;
    for (const PlannedOp& op : ops) {
      INFO(kernels_of(op));
      CHECK(
          std::none_of(op.kernels.begin(), op.kernels.end(), [](const auto& k) { return k.blocks() == 0; }));
      for (const char* product : {"Conv2d", "Linear", "Attention"})
        if (begins_with(op.name, product)) {
          ++seen[product];
          CHECK((has_kernel(op, "mma_") || (op.convolution && is_image(*op.convolution))));
        }
      CHECK_FALSE((begins_with(op.name, "AddTo") || begins_with(op.name, "Cast")));
      if (!begins_with(op.name, "GroupNorm")) continue;
      ++seen["GroupNorm"];
      CHECK(has_kernel(op, ", 8, bf16>"));
    }
    // 52 of 3 x 3 and 13 shortcuts; 2 of time, 22 of residual blocks and 2 in each of 6 attentions. The first of either
    // has nobody to pass a gradient to.
    CHECK(seen["Conv2d"] == 3 * (52 + 13) - 1);
    CHECK(seen["Linear"] == 3 * (2 + 22 + 12) - 1);
    CHECK(seen["Attention"] == 2 * 6);
    CHECK(seen["GroupNorm"] == 2 * 51);
  });
}

TEST_CASE(
    "an H100 computes every convolution of the U-Net by wgmma that its tiles can be cut from and fill it") {
  int seen = 0;
  for (const PlannedOp& op : plan_training_step(gpus[2].properties, UNetConfig::cifar10(), 128)) {
    if (!begins_with(op.name, "Conv2d") || op.convolution->kernel != 3) continue;
    INFO(kernels_of(op));
    const Conv2dGeometry& g = *op.convolution;
    if (is_image(g)) {
      CHECK(has_kernel(op, "wgmma_kernel") == (g.cout == 3 && op.name == "Conv2dForward<bf16>"));
      continue;
    }
    const bool is_weight = begins_with(op.name, "Conv2dBackwardWeight");
    const bool is_small = op.name == "Conv2dBackwardData<bf16>" ? g.h == 4 : g.p == 4;  // 32 tiles
    CHECK(has_kernel(op, "wgmma_kernel") == (g.stride == 1 && (is_weight || !is_small)));
    if (!has_kernel(op, "wgmma_kernel")) continue;
    ++seen;
    CHECK(filled({132}, op.kernels.front().blocks()) > 0.8);
  }
  // 47 of 3 x 3 have a stride of 1, and 12 + 3 of them are of 4 x 4; one more upsamples those.
  CHECK(seen == 47 + (47 - 14) + (47 - 15));
}

TEST_CASE("products of float are on tensor cores where the device allows TF32, but for images") {
  for_each_plan([&](const GpuProperties& gpu, int, const std::vector<PlannedOp>& ops) {
    int seen = 0;
    for (const PlannedOp& op : ops) {
      if (!op.convolution) continue;
      INFO(kernels_of(op));
      const Conv2dGeometry& g = *op.convolution;
      const ConvolutionPass pass = pass_of(op);
      const bool reads_image = g.channels() == 3 || (g.cout == 3 && pass != ConvolutionPass::forward);
      for (const FloatProducts products : {FloatProducts::exact, FloatProducts::tf32}) {
        GpuProperties chosen = gpu;
        chosen.float_products = products;
        const std::string kernel = plan_in_float(chosen, g, pass).front().name;
        const bool is_mma = products == FloatProducts::tf32 && !reads_image;
        INFO(kernel);
        CHECK(contains(kernel, is_mma ? "_mma_kernel<" : "_implicit_gemm_kernel<"));
        CHECK(contains(kernel, "float"));
        seen += is_mma;
      }
    }
    CHECK(seen == 3 * (52 + 13) - 1 + 3 * (2 + 22 + 12) - 1 -
                      4);  // of the image: once forward, once to data, twice to weight
  });
}

TEST_CASE("the plan is of the convolutions that the network has") {
  using Shape3 = std::array<int, 3>;  // of y, of x, channels of both
  const auto ops = plan_training_step(h100, UNetConfig::cifar10(), 128);
  std::map<Shape3, int> seen;
  std::int64_t flops = 0;
  for (const PlannedOp& op : ops) {
    flops += op.cost.flops;
    if (op.name == "Conv2dForward<bf16>" && op.convolution->kernel == 3)
      ++seen[{op.convolution->p, op.convolution->channels(), op.convolution->cout}];
  }
  CHECK(seen == std::map<Shape3, int>{{{32, 3, 128}, 1},
                                      {{32, 128, 128}, 7},
                                      {{32, 256, 128}, 2},
                                      {{32, 256, 256}, 1},
                                      {{32, 384, 128}, 1},
                                      {{32, 128, 3}, 1},
                                      {{16, 128, 128}, 1},
                                      {{16, 128, 256}, 1},
                                      {{16, 256, 256}, 7},
                                      {{16, 384, 256}, 1},
                                      {{16, 512, 256}, 2},
                                      {{8, 256, 256}, 9},
                                      {{8, 512, 256}, 3},
                                      {{4, 256, 256}, 12},
                                      {{4, 512, 256}, 3}});
  CHECK(static_cast<double>(flops) == Approx(128 * 37.33e9).epsilon(0.01));
}

TEST_CASE("a step moves little more than its activations and weights") {
  std::int64_t bytes = 0;  // each operand once
  for (const PlannedOp& op : plan_training_step(h100, UNetConfig::cifar10(), 128)) bytes += op.cost.bytes;
  CHECK(static_cast<double>(bytes) <= 17e9);
}

TEST_CASE("every tile is the best for some convolution of the network, and fills the GPU at large batches") {
  std::map<MmaTile, int> of_pixels, of_weight;
  std::set<int> parts;
  for_each_plan([&](const GpuProperties& gpu, int batch, const std::vector<PlannedOp>& ops) {
    for (const PlannedOp& op : ops) {
      if (!begins_with(op.name, "Conv2d") || is_image(*op.convolution) || !has_kernel(op, "_mma_")) continue;
      INFO(kernels_of(op));
      const PlannedKernel& kernel = op.kernels.front();
      const std::string::size_type at = kernel.name.find("(MmaTile)");
      REQUIRE(at != std::string::npos);
      const auto tile = static_cast<MmaTile>(kernel.name[at + 9] - '0');
      const bool is_weight = begins_with(op.name, "Conv2dBackwardWeight");
      ++(is_weight ? of_weight : of_pixels)[tile];
      if (is_weight) {
        const MmaChoice choice = choose_mma_weight(gpu, *op.convolution);
        CHECK(choice.tile == tile);
        CHECK(static_cast<unsigned>(choice.parts) == kernel.grid.y);
        parts.insert(choice.parts);
      }
      if (batch == 128 && (is_weight || op.convolution->pixels() >= 128 * 16 * 16))
        CHECK(filled(gpu, kernel.blocks()) > (is_weight ? 0.8 : 0.7));
    }
  });
  CHECK(of_pixels.size() == 4);
  CHECK(of_weight.size() == 3);
  CHECK(*parts.begin() == 1);
}

TEST_CASE("tiles are as large as the GPU can be filled with") {
  // Layers of a batch of 128: 32 x 32, 8 x 8 and 4 x 4 pixels.
  CHECK(choose_mma_tile(h100, 128 * 32 * 32, 128) == MmaTile::tall);
  CHECK(choose_mma_tile(rtx4090, 128 * 32 * 32, 128) == MmaTile::large);  // has no shared memory for it
  CHECK(choose_mma_tile(h100, 64 * 16 * 16, 256) == MmaTile::tall);       // 128 tiles
  CHECK(choose_mma_tile(h100, 128 * 8 * 8, 256) == MmaTile::large);
  CHECK(choose_mma_tile(h100, 64 * 8 * 8, 256) == MmaTile::flat);
  CHECK(choose_mma_tile(h100, 128 * 4 * 4, 256) == MmaTile::small);
  CHECK(choose_mma_tile(h100, 1, 8) == MmaTile::small);
  // 128 tiles are one wave of an H100 and two of an A100.
  CHECK(choose_mma_tile(a100, 128 * 8 * 8, 256) != MmaTile::small);
  CHECK(choose_mma_tile(h100, 1 << 24, 128) == MmaTile::tall);
  CHECK(choose_mma_tile(h100, 1 << 24, 64) == MmaTile::small);
}

TEST_CASE("the pixels of a weight's gradient are cut into as many parts as fill the GPU") {
  const auto choice = [](const GpuProperties& gpu, int n, int size, int c, int cout) {
    return choose_mma_weight(gpu, {n, size, size, c, 0, cout, 3, 1, 1, 1, 1, size, size});
  };
  const MmaChoice wide = choice(h100, 128, 16, 256, 256);  // 18 tall tiles
  CHECK(wide.tile == MmaTile::tall);
  CHECK(filled(h100, 18 * wide.parts) > 0.95);
  CHECK(choice(rtx4090, 128, 16, 256, 256).tile == MmaTile::large);
  CHECK(choice(a100, 128, 16, 256, 256).parts % 3 == 0);  // whole waves of 108
  CHECK(choice(h100, 1, 8, 128, 128).parts == 1);         // too few pixels
  CHECK(choice(h100, 128, 32, 128, 32).tile == MmaTile::small);
}
