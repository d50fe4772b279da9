// SPDX-License-Identifier: MIT
// The smallest trainable model: y = gain[c] * x + offset[c].
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <ddpm/ddpm.hpp>

namespace train_support {

template <class T, ddpm::HostDevice D>
class ToyModel {
 public:
  using value_type = T;
  using device_type = D;
  using View = ddpm::TensorView<T, D>;
  using Steps = ddpm::TensorView<std::int32_t, D>;
  struct Cache {
    View x;
  };

  ToyModel(const D& device, int channels)
      : parameters_(device),
        gain_(parameters_.add({channels}, ddpm::Initializer::ones())),
        offset_(parameters_.add({channels}, ddpm::Initializer::zeros())) {
    parameters_.allocate();
  }

  ToyModel clone() const {
    ToyModel copy(device(), static_cast<int>(gain_.shape()[0]));
    copy.parameters_.values().copy_from(parameters_.values());
    copy.parameters_.changed();
    return copy;
  }

  const D& device() const { return parameters_.device(); }
  ddpm::ParameterBuffer<T, D>& parameters() { return parameters_; }
  const ddpm::ParameterBuffer<T, D>& parameters() const { return parameters_; }

  ddpm::Tensor<T, D> predict(const View& x, const Steps&) const {
    ddpm::Tensor<T, D> y(x.device(), x.shape());
    for (std::int64_t i = 0; i < x.numel(); ++i)
      y.data()[i] =
          gain_.value().data()[i % channels()] * x.data()[i] + offset_.value().data()[i % channels()];
    return y;
  }
  ddpm::Tensor<T, D> forward(const View& x, const Steps& t, Cache& cache) const {
    cache.x = x;
    return predict(x, t);
  }
  void backward(const View& dy, const Cache& cache) const {
    for (std::int64_t i = 0; i < dy.numel(); ++i) {
      gain_.gradient().data()[i % channels()] += dy.data()[i] * cache.x.data()[i];
      offset_.gradient().data()[i % channels()] += dy.data()[i];
    }
  }
  template <class F>
  void visit(const std::string& prefix, F&& f) const {
    f(prefix + "gain", gain_);
    f(prefix + "offset", offset_);
  }

 private:
  std::int64_t channels() const { return gain_.shape()[0]; }

  ddpm::ParameterBuffer<T, D> parameters_;
  ddpm::Parameter<T, D> gain_, offset_;
};

// Fills the values or gradients of a model, gaps included: those must not matter.
template <class View>
void fill(const View& view, unsigned seed, double scale) {
  using T = typename View::value_type;
  std::vector<T> values;
  for (std::int64_t i = 0; i < view.numel(); ++i) {
    seed = seed * 1664525u + 1013904223u;
    values.push_back(static_cast<T>(scale * (static_cast<double>(seed) * 0x1p-31 - 1)));
  }
  view.upload(values);
}

}  // namespace train_support
