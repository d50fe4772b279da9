// SPDX-License-Identifier: MIT
// What a TMA tile load does, for the host.
#pragma once

#include <algorithm>

#include <ddpm/kernels/arch/swizzle.cuh>
#include <ddpm/kernels/arch/target.cuh>

namespace ddpm::arch::host {

struct TensorMap {
  const void* base;
  unsigned element_bytes;
  int rank;
  std::int64_t size[4];
  std::int64_t stride[4];
  int box[4];
};

inline constexpr unsigned tile_row = 128;  // bytes
inline constexpr unsigned chunk = 16;      // bytes: what the swizzle permutes

// Adds the bytes of one row of the tile; `row` null means that the row lies outside of the tensor.
inline void add_tile_row(std::vector<simt::BulkPiece>& pieces, std::uint32_t to, const TensorMap& map,
                         const unsigned char* row, std::int64_t first) {
  const auto element = static_cast<std::int64_t>(map.element_bytes);
  const std::int64_t begin = row ? std::clamp<std::int64_t>(-first * element, 0, tile_row) : tile_row;
  const std::int64_t end =
      row ? std::clamp<std::int64_t>((map.size[0] - first) * element, 0, tile_row) : tile_row;
  for (std::int64_t at = 0; at < tile_row;) {
    const bool inside = at >= begin && at < end;
    std::int64_t stop = (at / chunk + 1) * chunk;
    if (at < begin) stop = std::min(stop, begin);
    if (inside) stop = std::min(stop, end);
    pieces.push_back({swizzle_128(to + static_cast<std::uint32_t>(at)),
                      inside ? row + first * element + at : nullptr, static_cast<std::uint32_t>(stop - at)});
    at = stop;
  }
}

inline void tma_load(void* to, const TensorMap& map, const int* first, std::uint64_t* barrier, CallSite at) {
  int rows = 1;
  for (int axis = 1; axis < map.rank; ++axis) rows *= map.box[axis];
  const std::uint32_t base = simt::shared_offset(to, static_cast<std::size_t>(rows) * tile_row, at);
  if (base % 1024 != 0) simt::fail("tma_load: the destination is not 1024-byte aligned", at);
  std::vector<simt::BulkPiece> pieces;
  for (int row = 0; row < rows; ++row) {
    const auto* source = static_cast<const unsigned char*>(map.base);
    bool inside = true;
    for (int axis = 1, rest = row; axis < map.rank; rest /= map.box[axis++]) {
      const std::int64_t index = first[axis] + rest % map.box[axis];
      inside = inside && index >= 0 && index < map.size[axis];
      source += index * map.stride[axis] * static_cast<std::int64_t>(map.element_bytes);
    }
    add_tile_row(pieces, base + static_cast<std::uint32_t>(row) * tile_row, map, inside ? source : nullptr,
                 first[0]);
  }
  simt::bulk_copy(std::move(pieces), barrier, at);
}

}  // namespace ddpm::arch::host
