// SPDX-License-Identifier: MIT
// The parameters of a model: one flat buffer of master weights, and views of it by name and shape.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include <ddpm/core/rng.hpp>
#include <ddpm/core/tensor.hpp>
#include <ddpm/ops/conv2d.hpp>
#include <ddpm/ops/elementwise.hpp>

namespace ddpm {

// How a parameter begins: constant, uniform in [-spread, spread], or normal with standard deviation spread.
struct Initializer {
  enum class Kind { constant, uniform, normal };
  Kind kind = Kind::constant;
  double spread = 0;  // the value itself, for constant

  static Initializer zeros() { return {}; }
  static Initializer ones() { return {Kind::constant, 1}; }
  static Initializer normal(double deviation) { return {Kind::normal, deviation}; }
  // variance_scaling(scale, "fan_avg", "uniform"), as all weights of Ho et al.'s code; `taps` is 9 for a 3x3
  // convolution.
  static Initializer fan_average(int in, int out, int taps = 1, double scale = 1) {
    return {Kind::uniform, std::sqrt(3 * scale / (0.5 * taps * (in + out)))};
  }
  // What the last layer of every residual branch gets, so that a new network starts as (nearly) the identity.
  static constexpr double nearly_zero = 1e-10;
};

// The memory behind a model's parameters. Its address is stable while the model moves.
template <Element T, Device D>
struct ParameterStorage {
  struct Entry {
    std::int64_t offset, count;
    Initializer initializer;
  };

  D device;
  std::vector<Entry> entries;
  std::int64_t size = 0;      // elements, gaps included
  std::uint64_t version = 1;  // counts changes of the values, so that copies made from them know their age
  Tensor<Accumulator<T>, D> values;     // master weights; gaps are zero
  Tensor<Accumulator<T>, D> gradients;  // empty until a model is first trained

  // The values in T, made again after they have changed; for a T that is not the type of the values.
  const Tensor<T, D>& rounded() {
    if (rounded_version_ != version) {
      if (rounded_.empty()) rounded_ = Tensor<T, D>(device, {size});
      cast(values.view(), rounded_.view());
      rounded_version_ = version;
    }
    return rounded_;
  }
  // To be called after one pass that has written the values, and them in T to rounded().
  void updated() { rounded_version_ = ++version; }

 private:
  Tensor<T, D> rounded_;
  std::uint64_t rounded_version_ = 0;
};

// One parameter: a shape and a place in the flat buffer.
template <Element T, Device D>
class Parameter {
 public:
  Parameter() = default;
  Parameter(ParameterStorage<T, D>* storage, Shape shape, std::int64_t offset)
      : storage_(storage), shape_(shape), offset_(offset) {}

  const Shape& shape() const { return shape_; }
  std::uint64_t version() const { return storage_->version; }
  bool empty() const { return storage_ == nullptr; }

  TensorView<Accumulator<T>, D> value() const {
    return {storage_->device, storage_->values.data() + offset_, shape_};
  }
  // The value in the model's own type, as its convolutions and products read it.
  TensorView<T, D> operand() const {
    if constexpr (std::same_as<T, Accumulator<T>>)
      return value();
    else
      return {storage_->device, storage_->rounded().data() + offset_, shape_};
  }
  TensorView<Accumulator<T>, D> gradient() const {
    return {storage_->device, storage_->gradients.data() + offset_, shape_};
  }
  // To be called after writing to value().
  void changed() const { ++storage_->version; }

  // Rows [first, first + count) as a parameter of their own.
  Parameter rows(std::int64_t first, std::int64_t count) const {
    const auto part = value().slice(first, count);
    return {storage_, part.shape(), offset_ + (part.data() - value().data())};
  }

 private:
  ParameterStorage<T, D>* storage_ = nullptr;
  Shape shape_;
  std::int64_t offset_ = 0;
};

// Owns the storage. Layers take their parameters from it with add(); allocate() ends that phase.
template <Element T, Device D>
class ParameterBuffer {
 public:
  static constexpr std::int64_t alignment = 256 / sizeof(Accumulator<T>);

  explicit ParameterBuffer(const D& device) : storage_(std::make_unique<ParameterStorage<T, D>>()) {
    storage_->device = device;
  }

  Parameter<T, D> add(const Shape& shape, const Initializer& initializer) {
    const std::int64_t offset = storage_->size;
    storage_->entries.push_back({offset, shape.numel(), initializer});
    storage_->size = (offset + shape.numel() + alignment - 1) / alignment * alignment;
    return {storage_.get(), shape, offset};
  }

  // Zero-filled values.
  void allocate() { storage_->values = Tensor<Accumulator<T>, D>::zeros(device(), {storage_->size}); }

  // Draws every parameter by its initializer: number i of the rng's stream parameter_init is parameter i.
  void initialize(const Rng& rng) {
    std::vector<Accumulator<T>> values(static_cast<std::size_t>(storage_->size));
    RandomPosition at{rng.seed, 0, 0, RandomStream::parameter_init};
    for (const auto& entry : storage_->entries) {
      for (std::int64_t i = 0; i < entry.count; ++i) {
        const PhiloxWords words = random_words(at, static_cast<std::uint32_t>(i / 4));
        double value = entry.initializer.spread;
        if (entry.initializer.kind == Initializer::Kind::uniform)
          value *= 2 * static_cast<double>(uniform(words.word[i % 4])) - 1;
        if (entry.initializer.kind == Initializer::Kind::normal)
          value *= static_cast<double>(normals(words).value[i % 4]);
        values[static_cast<std::size_t>(entry.offset + i)] = static_cast<Accumulator<T>>(value);
      }
      ++at.sample;
    }
    storage_->values.upload(values);
    changed();
  }

  // Zero-filled gradients, made on the first call.
  void enable_gradients() {
    if (storage_->gradients.empty())
      storage_->gradients = Tensor<Accumulator<T>, D>::zeros(device(), {storage_->size});
  }

  const D& device() const { return storage_->device; }
  TensorView<Accumulator<T>, D> values() const { return storage_->values; }
  TensorView<Accumulator<T>, D> gradients() const { return storage_->gradients; }
  void changed() const { ++storage_->version; }
  // Before work is recorded that is to read the values: a recording would round them at each launch.
  void round() const {
    if constexpr (!std::same_as<T, Accumulator<T>>) storage_->rounded();
  }
  ParameterStorage<T, D>* storage() const { return storage_.get(); }

 private:
  std::unique_ptr<ParameterStorage<T, D>> storage_;
};

// The weight of a convolution as the device's kernels read it best. It is made for the third reader of a weight: one
// that changes before, as in training, where recomputation reads it twice, is not worth the copy.
template <Element T, Device D>
class PreparedWeight {
 public:
  // Empty for the first two readers, and where the device reads weights as they are.
  TensorView<T, D> get(const Parameter<T, D>& weight, Conv2dGeometry geometry, Conv2dPass pass) {
    geometry.n = 1;  // a prepared weight serves any batch size
    if (weight.version() != version_ || geometry != geometry_) {
      version_ = weight.version();
      geometry_ = geometry;
      readers_ = 0;
    }
    if (readers_ < 2) {
      ++readers_;
      return {};
    }
    if (readers_ == 2) {
      const TensorView<T, D> value = weight.operand();
      const std::int64_t size = conv2d_prepared_size<T>(value.device(), geometry, pass);
      if (size != prepared_.numel()) prepared_ = size ? Tensor<T, D>(value.device(), {size}) : Tensor<T, D>();
      if (size) launch(value.device(), Conv2dPrepare<T>{geometry, pass, value.data(), prepared_.data()});
      readers_ = 3;
    }
    return prepared_;
  }

 private:
  Tensor<T, D> prepared_;
  Conv2dGeometry geometry_{};
  std::uint64_t version_ = 0;
  int readers_ = 0;  // of this geometry and version, up to 3
};

}  // namespace ddpm
