// SPDX-License-Identifier: MIT
// Shape: up to four extents, outermost first, of a dense tensor.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <ostream>

#include <ddpm/core/error.hpp>

namespace ddpm {

class Shape {
 public:
  static constexpr int max_rank = 4;

  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<std::int64_t> extents) {
    check(extents.size() <= max_rank, "Shape: ", extents.size(), " extents given, at most 4 are supported");
    for (const std::int64_t extent : extents) {
      check(extent >= 0, "Shape: extent ", extent, " is negative");
      extents_[static_cast<std::size_t>(rank_++)] = extent;
    }
  }

  constexpr int rank() const { return rank_; }
  constexpr std::int64_t operator[](int axis) const { return extents_[static_cast<std::size_t>(axis)]; }

  // The number of elements; 0 for a default-constructed shape.
  constexpr std::int64_t numel() const {
    std::int64_t product = rank_ == 0 ? 0 : 1;
    for (int axis = 0; axis < rank_; ++axis) product *= (*this)[axis];
    return product;
  }

  friend constexpr bool operator==(const Shape&, const Shape&) = default;

  friend std::ostream& operator<<(std::ostream& out, const Shape& shape) {
    out << '[';
    for (int axis = 0; axis < shape.rank_; ++axis) out << (axis ? ", " : "") << shape[axis];
    return out << ']';
  }

 private:
  std::array<std::int64_t, max_rank> extents_{};
  int rank_ = 0;
};

}  // namespace ddpm
