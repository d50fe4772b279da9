// SPDX-License-Identifier: MIT
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include <ddpm/core/tensor.hpp>

#include "catch_shim.hpp"

using namespace ddpm;

namespace {

using Floats = std::vector<float>;

}  // namespace

TEST_CASE("a tensor owns what it is given and gives it back", "[tensor]") {
  const Floats values{1, 2, 3, 4, 5, 6};
  const Tensor<float, Cpu> tensor(Cpu{}, {2, 3}, values);
  CHECK(tensor.to_host() == values);
  CHECK(tensor.shape() == Shape{2, 3});
  CHECK(tensor.numel() == 6);
  CHECK(tensor.bytes() == 24);
  CHECK_FALSE(tensor.empty());
  CHECK(reinterpret_cast<std::uintptr_t>(tensor.data()) % 64 == 0);
  CHECK(Tensor<float, Cpu>{}.empty());
  CHECK(Tensor<float, Cpu>::zeros(Cpu{}, {3}).to_host() == Floats(3));
}

TEST_CASE("a tensor moves and clones, but is not copied", "[tensor]") {
  static_assert(!std::is_copy_constructible_v<Tensor<float, Cpu>> &&
                !std::is_copy_assignable_v<Tensor<float, Cpu>>);
  static_assert(std::is_nothrow_move_constructible_v<Tensor<float, Cpu>>);
  static_assert(std::is_trivially_copyable_v<TensorView<float, Cpu>>);
  Tensor<float, Cpu> a(Cpu{}, {2}, Floats{1, 2});
  const float* address = a.data();
  Tensor<float, Cpu> b = std::move(a);
  CHECK(b.data() == address);
  Tensor<float, Cpu> c = b.clone();
  CHECK(c.data() != address);
  c.data()[0] = 9;
  CHECK(b.to_host() == Floats{1, 2});
  c = std::move(b);
  CHECK(c.data() == address);
  CHECK(c.to_host() == Floats{1, 2});
}

TEST_CASE("views share their tensor's elements", "[tensor]") {
  const Tensor<float, Cpu> tensor(Cpu{}, {3, 2}, Floats{1, 2, 3, 4, 5, 6});
  const TensorView<float, Cpu> row = tensor.slice(1, 1);
  CHECK(row.shape() == Shape{1, 2});
  CHECK(row.to_host() == Floats{3, 4});
  row.data()[1] = 40;
  CHECK(tensor.to_host() == Floats{1, 2, 3, 40, 5, 6});
  CHECK(tensor.reshaped({6}).slice(4, 2).to_host() == Floats{5, 6});
  CHECK(tensor.reshaped({1, 3, 2, 1}).slice(0, 1).shape() == Shape{1, 3, 2, 1});
  CHECK(tensor.slice(3, 0).numel() == 0);
  tensor.slice(0, 1).zero();
  tensor.slice(2, 1).copy_from(tensor.slice(1, 1));
  CHECK(tensor.to_host() == Floats{0, 0, 3, 40, 3, 40});
}

TEST_CASE("a tensor refuses what does not fit", "[tensor]") {
  const Tensor<float, Cpu> tensor = Tensor<float, Cpu>::zeros(Cpu{}, {3, 2});
  CHECK_THROWS_AS(tensor.reshaped({5}), ShapeError);
  CHECK_THROWS_AS(tensor.slice(2, 2), ShapeError);
  CHECK_THROWS_AS(tensor.slice(-1, 1), ShapeError);
  CHECK_THROWS_AS(tensor.upload(Floats(5)), ShapeError);
  CHECK_THROWS_AS(tensor.copy_from(Tensor<float, Cpu>(Cpu{}, {2, 3})), ShapeError);
}

TEST_CASE("the pool counts its blocks and hands them out again", "[tensor][memory]") {
  const Cpu device;
  const std::size_t bytes = 12345 * sizeof(float);
  const float* address;
  const MemoryStats before = device.memory();
  {
    const Tensor<float, Cpu> tensor(device, {12345});
    address = tensor.data();
    const MemoryStats during = device.memory();
    CHECK(during.requests == before.requests + 1);
    CHECK(during.bytes_in_use >= before.bytes_in_use + static_cast<std::int64_t>(bytes));
    CHECK(during.peak_bytes_in_use >= during.bytes_in_use);
    CHECK(during.bytes_held >= during.bytes_in_use);
  }
  const MemoryStats after = device.memory();
  CHECK(after.bytes_in_use == before.bytes_in_use);
  const Tensor<float, Cpu> again(device, {12345});
  CHECK(again.data() == address);
  CHECK(device.memory().system_allocations == after.system_allocations);
}

TEST_CASE("a repeated sequence of tensors takes nothing from the system", "[tensor][memory]") {
  const Cpu device;
  const auto step = [&] {
    std::vector<float*> addresses;
    std::vector<Tensor<float, Cpu>> kept;
    for (int i = 0; i < 20; ++i) {
      kept.emplace_back(device, Shape{1 + i % 7, 100});
      addresses.push_back(kept.back().data());
      const Tensor<float, Cpu> passing(device, {std::int64_t{1} << (i % 23)});
    }
    return addresses;
  };
  step();
  const MemoryStats before = device.memory();
  const auto second = step(), third = step();
  CHECK(device.memory().system_allocations == before.system_allocations);
  CHECK(device.memory().bytes_held == before.bytes_held);
  CHECK(second.size() == third.size());
}

TEST_CASE("trimming gives back what is kept", "[tensor][memory]") {
  const Cpu device;
  { const Tensor<float, Cpu> tensor(device, {777777}); }
  HostPool::instance().trim();
  CHECK(device.memory().bytes_held == device.memory().bytes_in_use);
  const Tensor<float, Cpu> tensor = Tensor<float, Cpu>::zeros(device, {777777});
  CHECK(tensor.data()[777776] == 0);
}

TEST_CASE("empty tensors cost nothing to copy", "[tensor]") {
  const Tensor<float, Cpu> none(Cpu{}, {0, 4});
  CHECK(none.numel() == 0);
  CHECK(none.to_host().empty());
  none.zero();
  none.copy_from(none.clone());
}
