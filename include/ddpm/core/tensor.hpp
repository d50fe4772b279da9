// SPDX-License-Identifier: MIT
// Tensor owns dense memory of a device, TensorView borrows it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <ddpm/core/device.hpp>
#include <ddpm/core/error.hpp>
#include <ddpm/core/shape.hpp>

namespace ddpm {

// A borrowed dense array, last axis contiguous; activations are [N, H, W, C]. Like a pointer it is trivially
// copyable and does not carry constness: ops take what they read as `const TensorView&` and write their last
// parameter.
template <class T, Device D>
class TensorView {
 public:
  using value_type = T;
  using device_type = D;

  TensorView() = default;
  TensorView(const D& device, T* data, Shape shape) : data_(data), shape_(shape), device_(device) {}

  T* data() const { return data_; }
  const Shape& shape() const { return shape_; }
  const D& device() const { return device_; }
  std::int64_t numel() const { return shape_.numel(); }
  std::size_t bytes() const { return static_cast<std::size_t>(numel()) * sizeof(T); }
  bool empty() const { return data_ == nullptr; }

  // The same elements under another shape of equal size.
  TensorView reshaped(Shape shape) const {
    check(shape.numel() == numel(), "reshaped: ", shape_, " has ", numel(), " elements, ", shape, " has ",
          shape.numel());
    return {device_, data_, shape};
  }

  // Elements [first, first + count) of the outermost axis.
  TensorView slice(std::int64_t first, std::int64_t count) const {
    check(shape_.rank() > 0 && first >= 0 && count >= 0 && first + count <= shape_[0], "slice: elements ",
          first, " to ", first + count, " do not lie within ", shape_);
    Shape shape;
    switch (shape_.rank()) {
      case 1:
        shape = {count};
        break;
      case 2:
        shape = {count, shape_[1]};
        break;
      case 3:
        shape = {count, shape_[1], shape_[2]};
        break;
      default:
        shape = {count, shape_[1], shape_[2], shape_[3]};
    }
    return {device_, data_ + (shape_[0] == 0 ? 0 : numel() / shape_[0] * first), shape};
  }

  void zero() const { device_.zero(data_, bytes()); }

  // Copies `host`, which must have as many elements, to the device.
  void upload(std::span<const T> host) const {
    check(static_cast<std::int64_t>(host.size()) == numel(), "upload: ", host.size(), " elements given for ",
          shape_);
    device_.upload(data_, host.data(), bytes());
  }

  std::vector<T> to_host() const {
    std::vector<T> host(static_cast<std::size_t>(numel()));
    device_.download(host.data(), data_, bytes());
    return host;
  }

  void copy_from(const TensorView& other) const {
    check(other.shape() == shape_, "copy_from: ", other.shape(), " does not fit ", shape_);
    device_.copy(data_, other.data(), bytes());
  }

 protected:
  T* data_ = nullptr;
  Shape shape_;
  [[no_unique_address]] D device_{};
};

// Move-only. A new tensor is uninitialised.
template <class T, Device D>
class Tensor : public TensorView<T, D> {
  using View = TensorView<T, D>;

 public:
  Tensor() = default;
  Tensor(const D& device, Shape shape) : View(device, nullptr, shape) {
    this->data_ = static_cast<T*>(device.allocate(this->bytes()));
  }
  Tensor(const D& device, Shape shape, std::span<const T> host) : Tensor(device, shape) {
    this->upload(host);
  }
  Tensor(Tensor&& other) noexcept : View(std::exchange(static_cast<View&>(other), View{})) {}
  Tensor& operator=(Tensor&& other) noexcept {
    if (this != &other) {
      release();
      static_cast<View&>(*this) = std::exchange(static_cast<View&>(other), View{});
    }
    return *this;
  }
  ~Tensor() { release(); }

  static Tensor zeros(const D& device, Shape shape) {
    Tensor tensor(device, shape);
    tensor.zero();
    return tensor;
  }

  const View& view() const { return *this; }

  Tensor clone() const {
    Tensor tensor(this->device_, this->shape_);
    tensor.copy_from(*this);
    return tensor;
  }

 private:
  void release() noexcept {
    if (this->data_ != nullptr) this->device_.deallocate(this->data_, this->bytes());
    this->data_ = nullptr;
  }
};

}  // namespace ddpm
