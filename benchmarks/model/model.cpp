// SPDX-License-Identifier: MIT
// Predicts the time of a training step of the CIFAR-10 U-Net in bf16, and of each of its convolutions by each tile.
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include <ddpm/kernels/block/wgmma_choice.hpp>

#include "time_model.hpp"

using namespace ddpm;
using namespace ddpm::model;
using kernels::MmaChoice;
using kernels::MmaTile;
using kernels::WgmmaTile;
using simt::ConvolutionPass;
using simt::PlannedKernel;
using simt::PlannedOp;

namespace {

constexpr int batches[] = {16, 64, 128};
constexpr const char* tile_names[] = {"256x128", "128x128", "64x128", "64x64"};
constexpr const char* wgmma_tile_names[] = {"128x128", "256x128", "128x256", "256x64", "128x192"};

bool begins_with(const std::string& text, const char* part) { return text.rfind(part, 0) == 0; }
bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// Registers: ptxas of CUDA 13.0 for sm_80 and sm_90, the most of the three passes.
Tile tile_of(MmaTile name, std::size_t shared_bytes) {
  constexpr int registers_of[] = {242, 242, 162, 126};
  const kernels::MmaTileSize size = kernels::size_of(name);
  return {size.rows,
          size.columns,
          size.depth,
          kernels::warps_of(name),
          registers_of[static_cast<int>(name)],
          static_cast<int>(shared_bytes)};
}

Tile tile_of(WgmmaTile name, std::size_t shared_bytes) {
  const kernels::MmaTileSize size = kernels::size_of(name);
  return {size.rows, size.columns, size.depth, 12, 168, static_cast<int>(shared_bytes), true};
}

// Whether the kernel's name has a tile of this kind.
template <class TileName>
std::optional<TileName> tile_in(const std::string& kernel, const std::string& kind) {
  const std::string::size_type at = kernel.find("(" + kind + ")");
  if (at == std::string::npos) return {};
  return static_cast<TileName>(kernel[at + kind.size() + 2] - '0');
}

ConvolutionPass pass_of(const PlannedOp& op) {
  if (contains(op.name, "Weight")) return ConvolutionPass::backward_weight;
  return contains(op.name, "Data") ? ConvolutionPass::backward_data : ConvolutionPass::forward;
}

// The depth follows from the operations: it is shorter where a stride or an upsampling leaves taps out.
Product product_of(const PlannedOp& op, const PlannedKernel& kernel) {
  const Conv2dGeometry& g = *op.convolution;
  const double products = static_cast<double>(op.cost.flops) / 2;
  Product p{static_cast<double>(g.pixels()), static_cast<double>(g.cout), 0,
            static_cast<double>(kernel.blocks())};
  if (pass_of(op) == ConvolutionPass::backward_data) {
    p.rows = 1.0 * g.n * g.h * g.w;
    p.columns = g.channels();
  }
  if (pass_of(op) == ConvolutionPass::backward_weight) {
    const bool is_in_classes = g.upsample > 1 && contains(kernel.name, "wgmma");
    const Conv2dGeometry computed = is_in_classes ? kernels::class_of(g) : g;
    p.rows = g.cout;
    p.columns = 1.0 * computed.taps() * g.channels();
    p.depth = static_cast<double>(g.pixels()) / kernel.grid.y;
    return p;
  }
  p.depth = products / p.rows / p.columns;
  return p;
}

// Scores and weighted rows, by 64 x 64 x 16: each of four warps reads its own rows and all columns.
double attention_seconds(const Gpu& gpu, const PlannedOp& op, const PlannedKernel& kernel) {
  constexpr double products = 2.0 * 64 * 64 * 16, element = sizeof(bf16);
  const bool is_forward = contains(op.name, "Forward");
  const double computed =
      static_cast<double>(op.cost.flops) * (is_forward ? 1 : 8.0 / 5);  // scores once per pass
  const double passes = is_forward ? 1 : 3;
  const double clocks = std::max(products / (gpu.tensor * tensor_efficiency),
                                 (4 * (64 + 16) + 64) * 16 * element / shared_per_clock);
  const double waves = ceil_div(static_cast<double>(kernel.blocks()), gpu.properties.multiprocessors);
  const double of_block = computed / passes / static_cast<double>(kernel.blocks()) / products * clocks;
  return (waves * of_block + fill_clocks) / gpu.clock;
}

double kernel_seconds(const Gpu& gpu, const PlannedOp& op, const PlannedKernel& kernel) {
  if (const auto tile = tile_in<MmaTile>(kernel.name, "MmaTile"))
    return seconds_of(gpu, tile_of(*tile, kernel.shared_bytes), product_of(op, kernel));
  if (const auto tile = tile_in<WgmmaTile>(kernel.name, "WgmmaTile")) {
    Product p = product_of(op, kernel);
    const Conv2dGeometry& g = *op.convolution;
    const kernels::PixelStrip strip =
        kernels::pixel_strip(*tile, g.kernel, g.p / g.upsample, g.q / g.upsample, g.upsample - 1);
    const double copied = 1.0 * strip.lines() / strip.taps / (strip.box.w * strip.box.h * strip.box.n);
    Tile computed = tile_of(*tile, kernel.shared_bytes);
    if (pass_of(op) != ConvolutionPass::backward_weight) {
      computed.is_persistent = true;
      p.copied_rows = copied;
      p.tiles = ceil_div(p.rows, computed.rows) * ceil_div(p.columns, computed.columns);
    } else if (*tile == WgmmaTile::taps) {
      p.copied_columns = copied;
    }
    return seconds_of(gpu, computed, p);
  }
  if (contains(kernel.name, "attention_mma")) return attention_seconds(gpu, op, kernel);
  if (contains(kernel.name, "implicit_gemm"))
    return static_cast<double>(op.cost.flops) /
           (gpu.properties.multiprocessors * 256 * gpu.clock * ffma_efficiency);
  const bool adds_classes = contains(kernel.name, "add_classes");
  if (adds_classes || contains(kernel.name, "add_parts")) {
    const Conv2dGeometry& g = *op.convolution;
    const double read = 4.0 * op.kernels.front().grid.y * g.cout * g.taps() * g.channels();
    const double bytes = adds_classes ? read * kernels::class_of(g).taps() / g.taps() : read;
    return bytes < reused_in_l2 * gpu.l2_bytes ? read / (gpu.l2 * gpu.properties.multiprocessors * gpu.clock)
                                               : 2 * dram_seconds(gpu, bytes);
  }
  return 0;  // bound by memory, counted for the op
}

// With what a group norm reads a second time, unless L2 still has it.
double bytes_of(const Gpu& gpu, const PlannedOp& op) {
  double again = 0;
  if (op.norm) {
    const double x = 1.0 * op.norm->n * op.norm->hw * op.norm->channels() * sizeof(bf16);
    if (op.kernels.size() == 3) again = x;
    if (op.kernels.size() == 4) again = 2 * x;  // backward
    if (again < reused_in_l2 * gpu.l2_bytes) again = 0;
  }
  return static_cast<double>(op.cost.bytes) + again;
}

struct Prediction {
  double seconds = 0, compute = 0, memory = 0, starts = 0, bytes = 0, least_bytes = 0, flops = 0;
  int ops = 0, kernels = 0;

  void operator+=(const Prediction& o) {
    seconds += o.seconds, compute += o.compute, memory += o.memory, starts += o.starts;
    bytes += o.bytes, least_bytes += o.least_bytes, flops += o.flops;
    ops += o.ops, kernels += o.kernels;
  }
};

Prediction predict(const Gpu& gpu, const PlannedOp& op) {
  Prediction p;
  p.ops = 1;
  p.kernels = static_cast<int>(op.kernels.size());
  p.starts = start_seconds * p.kernels;
  p.least_bytes = static_cast<double>(op.cost.bytes);
  p.bytes = bytes_of(gpu, op);
  p.flops = static_cast<double>(op.cost.flops);
  for (const PlannedKernel& kernel : op.kernels) p.compute += kernel_seconds(gpu, op, kernel);
  p.memory = dram_seconds(gpu, p.bytes);
  p.seconds = std::max(p.compute, p.memory) + p.starts;
  return p;
}

void print_row(const std::string& name, const Prediction& p) {
  std::printf("| %s | %d | %d | %.2f | %.2f | %.2f | %.2f | %.2f | %.0f |\n", name.c_str(), p.ops, p.kernels,
              1e3 * p.seconds, 1e3 * p.compute, 1e3 * p.memory, 1e3 * p.starts, p.bytes / 1e9,
              p.flops / p.seconds / 1e12);
}

void print_step(const Gpu& gpu, int batch) {
  std::map<std::string, Prediction> by_op;
  Prediction total;
  for (const PlannedOp& op : simt::plan_training_step(gpu.properties, UNetConfig::cifar10(), batch)) {
    const Prediction p = predict(gpu, op);
    by_op[op.name.substr(0, op.name.find('<'))] += p;
    total += p;
  }
  std::printf("\n## A training step of %d images, %s\n\n", batch, gpu.name);
  std::printf("| op | ops | kernels | ms | products, ms | memory, ms | starts, ms | GB | TFLOP/s |\n");
  std::printf("| --- | --: | --: | --: | --: | --: | --: | --: | --: |\n");
  std::vector<std::pair<std::string, Prediction>> rows(by_op.begin(), by_op.end());
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  for (const auto& [name, p] : rows) print_row(name, p);
  print_row("**all**", total);
  std::printf("\nEach input read once and each output written once: %.2f GB.\n", total.least_bytes / 1e9);
}

// The 3 x 3 convolutions of the network, each once.
std::vector<PlannedOp> convolutions(const Gpu& gpu, int batch) {
  std::vector<PlannedOp> found;
  std::set<std::tuple<int, int, int, int, int>> seen;
  for (PlannedOp& op : simt::plan_training_step(gpu.properties, UNetConfig::cifar10(), batch)) {
    if (!begins_with(op.name, "Conv2dForward") || op.convolution->kernel != 3) continue;
    const Conv2dGeometry& g = *op.convolution;
    if (seen.insert({g.p, g.channels(), g.cout, g.stride, g.upsample}).second) found.push_back(std::move(op));
  }
  return found;
}

std::vector<MmaTile> tiles_for(const Gpu& gpu, ConvolutionPass pass) {
  std::vector<MmaTile> tiles;
  for (const MmaTile tile : {MmaTile::tall, MmaTile::large, MmaTile::flat, MmaTile::small})
    if (kernels::can_have(gpu.properties, tile) &&
        !(pass == ConvolutionPass::backward_weight && tile == MmaTile::flat))
      tiles.push_back(tile);
  return tiles;
}

std::string names_of(const std::vector<MmaTile>& tiles) {
  std::string names;
  for (const MmaTile tile : tiles)
    names += (names.empty() ? "" : " / ") + std::string(tile_names[static_cast<int>(tile)]);
  return names;
}

// The library's choice, and the time of every tile with it.
void print_choice(const Gpu& gpu, const Conv2dGeometry& g, ConvolutionPass pass, double& worst) {
  const bool is_weight = pass == ConvolutionPass::backward_weight;
  MmaChoice choice{MmaTile::large, 1};
  if (is_weight)
    choice = kernels::choose_mma_weight(gpu.properties, g);
  else if (pass == ConvolutionPass::forward)
    choice.tile = kernels::choose_mma_tile(gpu.properties, g.pixels(), g.cout);
  else
    choice.tile = kernels::choose_mma_tile(gpu.properties, std::int64_t{g.n} * g.h * g.w, g.channels());
  double chosen = 0, best = 1e9;
  std::string times;
  for (const MmaTile tile : tiles_for(gpu, pass)) {
    const double ms = 1e3 * predict(gpu, simt::plan_convolution(g, pass, {tile, choice.parts})).seconds;
    if (tile == choice.tile) chosen = ms;
    best = std::min(best, ms);
    char text[32];
    std::snprintf(text, sizeof text, "%s%.3f", times.empty() ? "" : " / ", ms);
    times += text;
  }
  worst = std::max(worst, chosen / best);
  std::printf(" %s%s %s |", tile_names[static_cast<int>(choice.tile)],
              choice.parts > 1 ? (" in " + std::to_string(choice.parts)).c_str() : "", times.c_str());
}

void print_choices(const Gpu& gpu, int batch) {
  std::printf("\n## Tiles, %s, batch %d\n\n", gpu.name, batch);
  std::printf("The choice, and ms by %s (weight: %s).\n\n",
              names_of(tiles_for(gpu, ConvolutionPass::forward)).c_str(),
              names_of(tiles_for(gpu, ConvolutionPass::backward_weight)).c_str());
  std::printf("| x | forward | data | weight |\n| --- | --- | --- | --- |\n");
  double worst = 1;
  for (const PlannedOp& op : convolutions(gpu, batch)) {
    if (op.convolution->channels() == 3 || op.convolution->cout == 3) continue;  // partly on no tensor core
    std::printf("| %s |", op.shape.c_str());
    for (const ConvolutionPass pass :
         {ConvolutionPass::forward, ConvolutionPass::backward_data, ConvolutionPass::backward_weight})
      print_choice(gpu, *op.convolution, pass, worst);
    std::printf("\n");
  }
  std::printf("\nThe choice is at most %.0f %% slower than the best of these.\n", 100 * (worst - 1));
}

double step_seconds(const Gpu& gpu, int batch) {
  double seconds = 0;
  for (const PlannedOp& op : simt::plan_training_step(gpu.properties, UNetConfig::cifar10(), batch))
    seconds += predict(gpu, op).seconds;
  return seconds;
}

// The kernel of a convolution of 3 x 3 and its time, by either instruction.
void print_wgmma(const Gpu& gpu, int batch) {
  Gpu without = gpu;
  without.properties.capability = 80;
  const auto plan = [&](const Gpu& of) {
    return simt::plan_training_step(of.properties, UNetConfig::cifar10(), batch);
  };
  const std::vector<PlannedOp> by_wgmma = plan(gpu), by_mma = plan(without);
  std::printf("\n## By wgmma and by mma.sync, %s, batch %d\n\n", gpu.name, batch);
  std::printf("| | x | by wgmma | ms | by mma.sync, ms |\n| --- | --- | --- | --: | --: |\n");
  std::set<std::string> seen;
  for (std::size_t i = 0; i < by_wgmma.size(); ++i) {
    const PlannedOp& op = by_wgmma[i];
    if (!op.convolution || op.convolution->kernel != 3 || !seen.insert(op.name + op.shape).second) continue;
    const std::string& kernel = op.kernels.front().name;
    const auto tile = tile_in<WgmmaTile>(kernel, "WgmmaTile");
    std::string choice = tile ? wgmma_tile_names[static_cast<int>(*tile)] : "no";
    if (tile && pass_of(op) == ConvolutionPass::backward_weight && op.kernels.front().grid.y > 1)
      choice += message(" in ", op.kernels.front().grid.y);
    std::printf("| %s | %s | %s | %.3f | %.3f |\n", op.name.substr(6, op.name.find('<') - 6).c_str(),
                op.shape.c_str(), choice.c_str(), 1e3 * predict(gpu, op).seconds,
                1e3 * predict(without, by_mma[i]).seconds);
  }
}

}  // namespace

int main() {
  std::printf(
      "# Predictions, not run on a GPU\n\nMade by `cmake --build build --target model_predictions`.\n");
  for (const Gpu& gpu : gpus) print_step(gpu, 128);
  for (Gpu gpu : gpus)
    if (gpu.wgmma > 0) {
      print_wgmma(gpu, 128);
      gpu.l2 = 40;
      std::printf("\nWere L2 to give %.0f bytes per clock and multiprocessor, %.2f ms.\n", gpu.l2,
                  1e3 * step_seconds(gpu, 128));
    }
  for (const Gpu& gpu : gpus)
    if (gpu.wgmma == 0)
      for (const int batch : batches) print_choices(gpu, batch);
}
