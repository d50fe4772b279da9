// SPDX-License-Identifier: MIT
// How long a kernel takes, from what it must do and what a GPU can do. No part of it was measured on a GPU.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include <ddpm/kernels/arch/target.cuh>

#include "planned_gpu.hpp"

namespace ddpm::model {

// Of data sheets, but for `tensor` and `l2`. Without wgmma they are taken to have the instructions of 8.0.
struct Gpu {
  const char* name;
  GpuProperties properties;
  double clock;      // Hz, under load
  double tensor;     // operations of a multiprocessor per clock, by mma.sync of bf16 with sums in float
  double l2;         // bytes of a multiprocessor per clock
  double dram;       // bytes per second
  double l2_bytes;   // its size
  int shared_bytes;  // of a multiprocessor
  double wgmma = 0;  // as `tensor`, by wgmma
};

inline constexpr Gpu gpus[] = {
    // 312 TFLOP/s; 5120 bytes per clock of L2, of which reads in no order get some three quarters.
    {"A100 SXM 80 GB", {108, 80, 163 << 10}, 1.41e9, 2048, 36, 2.04e12, 40e6, 164 << 10},
    // 989 TFLOP/s are those of wgmma, 4096 per clock; mma.sync gets 63 % (arXiv 2402.13499). L2: 5.5 to 6 TB/s were
    // measured on the 114 multiprocessors of the PCIe card.
    {"H100 SXM", {132, 80, 227 << 10}, 1.755e9, 0.63 * 4096, 28, 3.35e12, 50e6, 228 << 10},
    {"H100 SXM with wgmma", {132, 90, 227 << 10}, 1.755e9, 0.63 * 4096, 28, 3.35e12, 50e6, 228 << 10, 4096},
    // 165 TFLOP/s with sums in float; L2: about 5 TB/s.
    {"RTX 4090", {128}, 2.52e9, 512, 16, 1.008e12, 72e6, 100 << 10},
};

// What is assumed.
inline constexpr double tensor_efficiency = 0.9;  // ldmatrix, addresses and the loop take issue slots
// 759 TFLOP/s of an H100, 77 % of its 989: CUTLASS, cuBLAS and published kernels reach 74 to 81 % in large products.
inline constexpr double wgmma_efficiency = 0.8;
inline constexpr double dram_efficiency = 0.9;   // that a copy reaches
inline constexpr double ffma_efficiency = 0.6;   // of 128 per clock, for tiles that read shared memory
inline constexpr double shared_per_clock = 128;  // bytes of a multiprocessor
inline constexpr double slice_clocks = 500;  // least time of a slice: barrier, ldmatrix, a chain of products
inline constexpr double fill_clocks = 2000;  // to the first slice's arrival, and from the last to the end
inline constexpr double start_seconds = 1.5e-6;  // between two kernels of a graph: drain, start
inline constexpr double reused_in_l2 = 0.5;      // of its size: what is read again soon is still there
inline constexpr int registers = 65536;          // of a multiprocessor

struct Tile {
  int rows, columns, depth;
  int warps;
  int registers;  // of a thread, by ptxas
  int shared_bytes;
  bool is_wgmma = false;
  bool is_persistent = false;  // a block copies its next tile's slices while it writes the last one's results
};

inline double ceil_div(double a, double b) { return std::ceil(a / b); }

inline int resident_blocks(const Gpu& gpu, const Tile& tile) {
  constexpr int reserved = 1 << 10;  // of each block's shared memory, by the system
  const int by_registers = registers / (tile.registers * tile.warps * warp_size);
  return std::max(1, std::min(by_registers, gpu.shared_bytes / (tile.shared_bytes + reserved)));
}

// A product on tensor cores: tiles that each take `depth` of its depth.
struct Product {
  double rows, columns, depth;
  double tiles;
  double copied_rows = 1, copied_columns = 1;  // of a tile for each slice, as a part of them
};

// Each slice is multiplied, passes shared memory and comes from L2; the slowest counts.
inline double seconds_of(const Gpu& gpu, const Tile& t, const Product& p) {
  constexpr double element = sizeof(bf16);
  const double waves = ceil_div(p.tiles, gpu.properties.multiprocessors);
  const double resident = std::min<double>(resident_blocks(gpu, t), waves);
  const double operands = (t.rows * p.copied_rows + t.columns * p.copied_columns) * t.depth * element;
  // mma.sync: by the warps of a grid two wide; wgmma: by each product of 64 rows.
  const int reads_of_rows = t.is_wgmma ? 1 : 2, reads_of_columns = t.is_wgmma ? t.rows / 64 : t.warps / 2;
  const double read = (t.rows * reads_of_rows + t.columns * reads_of_columns) * t.depth * element;
  const double rate = t.is_wgmma ? gpu.wgmma * wgmma_efficiency : gpu.tensor * tensor_efficiency;
  const double slice =
      std::max({2.0 * t.rows * t.columns * t.depth / rate, (operands + read) / shared_per_clock,
                operands / gpu.l2, slice_clocks / resident});
  const double results = 1.0 * t.rows * t.columns;  // pass shared memory in float, leave as bf16
  const double slices = ceil_div(p.depth, t.depth), passing = results * 2 * sizeof(float) / shared_per_clock,
               leaving = results * element / gpu.l2;
  if (t.is_persistent) {
    const double tile = std::max(slices * slice + passing, slices * operands / gpu.l2 + leaving);
    return (waves * tile + leaving + fill_clocks) / gpu.clock;
  }
  const double block = slices * slice + passing + leaving;
  return (waves * block + ceil_div(waves, resident) * fill_clocks) / gpu.clock;
}

inline double dram_seconds(const Gpu& gpu, double bytes) { return bytes / (gpu.dram * dram_efficiency); }

}  // namespace ddpm::model
