// SPDX-License-Identifier: MIT
// Convolutions with all of their operands, for tests of kernels against Reference.
#pragma once

#include <ddpm/ops/reference/conv2d.hpp>

#include "op_test.hpp"

namespace ddpm::simt {

inline constexpr double tolerance = 1e-5;
inline constexpr double gradient_tolerance = 2e-5;

inline const Counters& counters() { return Executor::instance().counters(); }

inline constexpr Conv2dOptions no_padding{.pad_begin = 0, .pad_end = 0};

struct Images {
  int n, h, w, c, c2;
};

inline Conv2dGeometry geometry(const Images& x, int cout, int kernel, const Conv2dOptions& options) {
  return {x.n,
          x.h,
          x.w,
          x.c,
          x.c2,
          cout,
          kernel,
          options.stride,
          options.pad_begin,
          options.pad_end,
          options.upsample,
          ddpm::detail::conv2d_extent(x.h, kernel, options),
          ddpm::detail::conv2d_extent(x.w, kernel, options)};
}

template <class T>
std::vector<T> missing_values(std::size_t count) {
  return std::vector<T>(count, static_cast<T>(NAN));
}

enum Which : unsigned {
  none = 0,
  x = 1,
  x2 = 2,
  weight = 4,
  y = 8,
  bias = 16,
  add = 32,
  residual = 64,
  all = 127,
  moments = 128
};

// A convolution with all of its operands. `shifted` ones are not aligned to vectors, `present` ones exist.
template <class T>
struct Problem {
  Conv2dGeometry g;
  unsigned shifted = none, present = all;
  float scale = 0.75f;
  Operand<T> x = operand<T>(pixels_in() * g.c, Which::x);
  Operand<T> x2 = operand<T>(pixels_in() * g.c2, Which::x2);
  Operand<T> weight = operand<T>(std::int64_t{g.cout} * g.taps() * g.channels(), Which::weight);
  Operand<T> dy = operand<T>(g.pixels() * g.cout, Which::y);
  Operand<float> bias = operand<float>(g.cout, Which::bias);
  Operand<T> add = operand<T>(std::int64_t{g.n} * g.cout, Which::add);
  Operand<T> residual = operand<T>(g.pixels() * g.cout, Which::residual);
  Operand<T> y{missing_values<T>(dy.size()), offset(Which::y)};
  Operand<T> dx{missing_values<T>(x.size()), offset(Which::x)};
  Operand<T> dx2{missing_values<T>(x2.size()), offset(Which::x2)};
  Operand<T> dx_add = operand<T>(pixels_in() * g.c, Which::add);
  Operand<float> moments{missing_values<float>(count_of_moments()), offset(Which::moments)};
  std::vector<float> earlier = normal_values<float>(weight.size(), 99);
  Operand<float> dweight{earlier, offset(Which::weight)};
  Operand<float> dbias = operand<float>(g.cout, Which::bias);

  std::int64_t pixels_in() const { return std::int64_t{g.n} * g.h * g.w; }
  std::size_t count_of_moments() const {
    return static_cast<std::size_t>(2 * std::int64_t{g.n} * moments_slabs(g.p * g.q) * g.cout);
  }
  std::size_t offset(unsigned which) const { return shifted & which ? 1 : 0; }
  template <class U>
  Operand<U> operand(std::int64_t count, Which which) const {
    return Operand<U>(normal_values<U>(static_cast<std::size_t>(count), which), offset(which));
  }

  Conv2dForward<T> forward(auto address) {
    const auto if_present = [&](auto& operand, Which which) {
      return present & which ? address(operand) : nullptr;
    };
    return {g,
            address(x),
            g.c2 ? address(x2) : nullptr,
            address(weight),
            nullptr,
            if_present(bias, Which::bias),
            if_present(add, Which::add),
            if_present(residual, Which::residual),
            scale,
            address(y),
            reinterpret_cast<ChannelMoments<float>*>(if_present(moments, Which::moments))};
  }
  Conv2dBackwardData<T> backward_data(auto address) {
    return {g,
            address(dy),
            address(weight),
            nullptr,
            address(dx),
            g.c2 ? address(dx2) : nullptr,
            present & Which::add && !g.c2 ? address(dx_add) : nullptr};
  }
  Conv2dBackwardWeight<T> backward_weight(auto address) {
    return {g,           address(x),       g.c2 ? address(x2) : nullptr,
            address(dy), address(dweight), present & Which::bias ? address(dbias) : nullptr};
  }
};

// As tensor cores read factors: float rounded to the nearest number of 11 binary digits, ties away from zero.
template <class T>
void round_factors(T* values, std::size_t count) {
  if constexpr (std::is_same_v<T, float>)
    for (std::size_t i = 0; i < count; ++i) {
      int exponent;
      const float fraction = std::frexp(values[i], &exponent);
      values[i] = std::ldexp(std::round(std::ldexp(fraction, 11)), exponent - 11);
    }
}

// What Reference makes of a problem whose factors alone tensor cores round, not what is added.
template <class T>
void compute_reference(Problem<T>& p) {
  Conv2dBackwardWeight<T> weight = p.backward_weight(on_host), bias = weight;
  std::vector<float> other(p.dweight.size());
  bias.dweight = other.data();
  launch(Reference{}, bias);
  weight.dbias = nullptr;
  for (Operand<T>* factor : {&p.x, &p.x2, &p.weight, &p.dy}) round_factors(factor->host(), factor->size());
  launch(Reference{}, weight);
  launch(Reference{}, p.forward(on_host));
  launch(Reference{}, p.backward_data(on_host));
}

// Of the moments that a kernel left, from those of the y that it left.
template <class T>
double error_of_moments(Problem<T>& p) {
  std::vector<ChannelMoments<float>> expected(p.count_of_moments() / 2);
  channel_moments(p.y.device_values().data(), p.g.n, p.g.p * p.g.q, p.g.cout, expected.data());
  const std::vector<float> found = p.moments.device_values();
  std::vector<float> found_parts[2], expected_parts[2];
  for (std::size_t i = 0; i < expected.size(); ++i)
    for (const std::size_t part : {0, 1}) {
      found_parts[part].push_back(found[2 * i + part]);
      expected_parts[part].push_back(part == 0 ? expected[i].mean : expected[i].deviation);
    }
  return std::max(relative_error(found_parts[0], expected_parts[0].data()),
                  relative_error(found_parts[1], expected_parts[1].data()));
}

// dx begins as what is added to it.
template <class T, class Run>
void check_in_place(const Conv2dGeometry& g, Run run) {
  Problem<T> p{.g = g};
  Operand<T> dx(normal_values<T>(p.dx.size(), 9));
  const auto params = [&](auto address) {
    Conv2dBackwardData<T> params = p.backward_data(address);
    params.add = params.dx = address(dx);
    return params;
  };
  launch(Reference{}, params(on_host));
  run(params(on_device));
  CHECK(error_of(dx) < tolerance);
}

// What the messages of failed checks begin with.
inline std::string name(const Conv2dGeometry& g) {
  return message(g.n, "x", g.h, "x", g.w, "x", g.c, "+", g.c2, " to ", g.cout, ", kernel ", g.kernel,
                 ", stride ", g.stride, ", padding ", g.pad_begin, " ", g.pad_end, ", upsample ", g.upsample);
}

}  // namespace ddpm::simt
