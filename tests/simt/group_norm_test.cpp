// SPDX-License-Identifier: MIT
// Group normalisation: kernels against Reference, large means, and the bytes they move.
#include <ostream>

#include <ddpm/ops/reference/group_norm.hpp>

#include "group_norm_kernels.hpp"
#include "op_test.hpp"

using namespace ddpm;
using namespace ddpm::simt;

namespace {

constexpr double tolerance = 1e-5;

const Counters& counters() { return Executor::instance().counters(); }

struct Size {
  int n, hw, c, c2, groups;
  unsigned shifted = 0;  // bit i: operand i lies one element off

  GroupNormGeometry geometry() const { return {n, hw, c, c2, groups}; }
  std::size_t channels() const { return static_cast<std::size_t>(c + c2); }
  std::size_t samples() const { return static_cast<std::size_t>(n); }
  std::size_t statistics() const { return samples() * static_cast<std::size_t>(groups); }
  std::size_t pixels() const { return samples() * static_cast<std::size_t>(hw); }
  std::size_t first() const { return pixels() * static_cast<std::size_t>(c); }
  std::size_t second() const { return pixels() * static_cast<std::size_t>(c2); }

  template <class T>
  Operand<T> operand(unsigned index, std::size_t count) const {
    return Operand<T>(normal_values<T>(count, index), shifted >> index & 1u);
  }
};

constexpr unsigned all_operands = ~0u;

std::ostream& operator<<(std::ostream& out, const Size& s) {
  return out << "N " << s.n << ", HW " << s.hw << ", C " << s.c << " + " << s.c2 << ", G " << s.groups
             << ", shifted " << s.shifted;
}

const std::vector<Size> sizes = {
    // a group of one channel, and of all
    {1, 1, 1, 0, 1},
    {2, 1, 3, 0, 3},
    {1, 13, 37, 0, 37},
    {1, 11, 48, 0, 48},
    {3, 7, 3, 0, 1},
    {2, 5, 37, 0, 1},
    // groups of 3, 4 and 12
    {2, 16, 48, 0, 16},
    {2, 9, 64, 0, 16},
    {2, 16, 48, 0, 4},
    {2, 16, 48, 0, 4, all_operands},
    // groups that straddle x and x2
    {2, 6, 64, 32, 8},
    {2, 10, 5, 7, 4},
    {2, 9, 16, 5, 7},
    {1, 33, 20, 4, 2},
    {1, 33, 16, 8, 2},
    {1, 33, 24, 24, 4, all_operands},
    // several blocks side by side, and groups that straddle them
    {2, 3, 300, 0, 5},
    {1, 2, 520, 8, 4},
    {1, 5, 130, 0, 2, all_operands},
    {1, 250, 64, 32, 8},
    {1, 300, 36, 0, 3},
    {1, 256, 64, 0, 16},
    // several blocks of pixels; as much as a block has registers for, and more
    {1, 261, 60, 4, 4, all_operands},
    {1, 2048, 4, 0, 1},
    {1, 2049, 4, 0, 4}};

// The operands of both directions.
template <class T>
struct Operands {
  explicit Operands(const Size& s)
      : size(s),
        x(s.operand<T>(0, s.first())),
        x2(s.operand<T>(1, s.second())),
        scale_shift(s.operand<T>(2, 2 * s.samples() * s.channels())),
        gamma(s.operand<float>(3, s.channels())),
        beta(s.operand<float>(4, s.channels())) {}

  Size size;
  Operand<T> x, x2, scale_shift;
  Operand<float> gamma, beta;
};

enum class Kernels { chosen, streaming };

template <class Params>
void run_by(Kernels kernels, const Params& params) {
  if (kernels == Kernels::chosen)
    simt::kernels::run(params);
  else
    simt::kernels::run_streaming(params);
}

template <class T>
struct Forward : Operands<T> {
  explicit Forward(const Size& s)
      : Operands<T>(s),
        y(s.operand<T>(5, s.first() + s.second())),
        mean(s.operand<float>(6, s.statistics())),
        rstd(s.operand<float>(7, s.statistics())) {}

  template <class At>
  GroupNormForward<T> params(Activation activation, bool has_scale, At at) {
    return {this->size.geometry(),
            at(this->x),
            at(this->x2),
            at(this->gamma),
            at(this->beta),
            has_scale ? at(this->scale_shift) : nullptr,
            1e-5f,
            activation,
            at(y),
            at(mean),
            at(rstd)};
  }

  Operand<T> y;
  Operand<float> mean, rstd;
};

// Moments of `values` [N, HW, C], in both memories.
template <class T>
Operand<ChannelMoments<float>> moments_of(const Size& s, const std::vector<T>& values, int c) {
  std::vector<ChannelMoments<float>> moments(s.samples() * static_cast<std::size_t>(moments_slabs(s.hw) * c));
  channel_moments(values.data(), s.n, s.hw, c, moments.data());
  return Operand<ChannelMoments<float>>(moments);
}

// In standard deviations: a mean may be next to zero.
template <class T>
double error_of_mean(Forward<T>& op) {
  const std::vector<float> mean = op.mean.device_values();
  double error = 0;
  for (std::size_t i = 0; i < mean.size(); ++i) {
    const double difference = static_cast<double>(mean[i]) - static_cast<double>(op.mean.host()[i]);
    error = std::max(error, std::abs(difference) * static_cast<double>(op.rstd.host()[i]));
  }
  return error;
}

template <class T>
void check_forward(const Size& size, Activation activation, bool has_scale) {
  Forward<T> op(size);
  launch(Reference{}, op.params(activation, has_scale, on_host));
  for (const Kernels kernels : {Kernels::chosen, Kernels::streaming}) {
    run_everywhere_alike([&] { run_by(kernels, op.params(activation, has_scale, on_device)); }, op.y, op.mean,
                         op.rstd);
    CHECK(error_of(op.y) < tolerance);
    CHECK(error_of_mean(op) < 1e-6);
    CHECK(error_of(op.rstd) < tolerance);
  }
}

// What is added to dx and dx2; to_first and to_second come with `also`.
enum class Add { nothing, to_first, to_second, in_place };

template <class T>
struct Backward : Operands<T> {
  explicit Backward(const Size& s)
      : Operands<T>(s),
        dy(s.operand<T>(5, s.first() + s.second())),
        mean(s.operand<float>(6, s.statistics())),
        rstd(s.operand<float>(7, s.statistics())),
        add(s.operand<T>(8, s.first())),
        add2(s.operand<T>(9, s.second())),
        dx(s.operand<T>(10, s.first())),
        dx2(s.operand<T>(11, s.second())),
        also(s.operand<T>(12, s.first())),
        dscale_shift(s.operand<T>(16, 2 * s.samples() * s.channels())),
        dgamma(s.operand<float>(13, s.channels())),
        dbeta(s.operand<float>(14, s.channels())),
        dx_sums(s.operand<T>(15, s.samples() * s.channels())) {}

  template <class At>
  GroupNormBackward<T> params(Activation activation, bool has_scale, Add added, At at) {
    const T* first = added == Add::to_first ? at(add) : added == Add::in_place ? at(dx) : nullptr;
    const T* second = added == Add::to_second ? at(add2) : added == Add::in_place ? at(dx2) : nullptr;
    return {this->size.geometry(),
            at(dy),
            at(this->x),
            at(this->x2),
            at(this->gamma),
            at(this->beta),
            has_scale ? at(this->scale_shift) : nullptr,
            at(mean),
            at(rstd),
            activation,
            first,
            second,
            at(dx),
            at(dx2),
            at(dgamma),
            at(dbeta),
            has_scale ? at(dscale_shift) : nullptr,
            added == Add::nothing ? at(dx_sums) : nullptr,
            added == Add::to_first || added == Add::to_second ? at(also) : nullptr};
  }

  Operand<T> dy;
  Operand<float> mean, rstd;
  Operand<T> add, add2, dx, dx2, also, dscale_shift;
  Operand<float> dgamma, dbeta;
  Operand<T> dx_sums;
};

// As a part of what might have been summed: a sum may be next to zero.
template <class T>
double error_of_sums(Backward<T>& op) {
  double largest = 0, largest_sum = 0;
  for (Operand<T>* dx : {&op.dx, &op.dx2})
    for (std::size_t i = 0; i < dx->size(); ++i)
      largest = std::max(largest, std::abs(static_cast<double>(dx->host()[i])));
  for (std::size_t i = 0; i < op.dx_sums.size(); ++i)
    largest_sum = std::max(largest_sum, std::abs(static_cast<double>(op.dx_sums.host()[i])));
  return error_of(op.dx_sums) * largest_sum / (largest * op.size.hw);
}

template <class T>
void check_backward(const Size& size, Activation activation, bool has_scale, Add add) {
  Backward<T> op(size);
  launch(Reference{}, op.params(activation, has_scale, add, on_host));
  for (const Kernels kernels : {Kernels::chosen, Kernels::streaming}) {
    run_everywhere_alike([&] { run_by(kernels, op.params(activation, has_scale, add, on_device)); }, op.dx,
                         op.dx2, op.dgamma, op.dbeta, op.dscale_shift, op.dx_sums);
    for (Operand<T>* gradient : {&op.dx, &op.dx2}) CHECK(error_of(*gradient) < tolerance);
    CHECK(error_of(op.dgamma) < tolerance);
    CHECK(error_of(op.dbeta) < tolerance);
    if (has_scale) CHECK(error_of(op.dscale_shift) < tolerance);
    if (add == Add::nothing) CHECK(error_of_sums(op) < 1e-6);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("group normalisation", "", float, bf16) {
  for (const Size& size : sizes) {
    INFO(size);
    check_forward<TestType>(size, Activation::silu, true);
    check_forward<TestType>(size, Activation::none, false);
  }
}

TEMPLATE_TEST_CASE("gradients of group normalisation", "", float, bf16) {
  constexpr Add added[] = {Add::in_place, Add::to_first, Add::to_second};
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const Size& size = sizes[i];
    INFO(size);
    const bool is_even = i % 2 == 0;
    check_backward<TestType>(size, Activation::silu, is_even, is_even ? Add::nothing : added[i % 3]);
    check_backward<TestType>(size, Activation::none, !is_even, is_even ? added[i % 3] : Add::nothing);
  }
}

TEMPLATE_TEST_CASE("operands that lie apart from where packs of channels would", "", float, bf16) {
  for (unsigned index = 0; index < 13; ++index) {
    const Size size{1, 3, 16, 8, 3, 1u << index};
    INFO(size);
    check_forward<TestType>(size, Activation::silu, true);
    check_backward<TestType>(size, Activation::silu, true, Add::to_first);
    check_backward<TestType>(size, Activation::silu, true, Add::to_second);
  }
}

TEMPLATE_TEST_CASE("moments that the makers of x and x2 left are read in place of these", "", float, bf16) {
  using T = TestType;
  for (const Size& size : {Size{2, 64, 48, 0, 4}, Size{3, 16, 40, 24, 8}, Size{2, 65, 5, 7, 4},
                           Size{2, 200, 20, 4, 2, all_operands}, Size{1, 1, 6, 3, 3}}) {
    INFO(size);
    Forward<T> op(size);
    const auto x = std::vector<T>(op.x.host(), op.x.host() + op.x.size());
    const auto x2 = std::vector<T>(op.x2.host(), op.x2.host() + op.x2.size());
    const auto moments = moments_of(size, x, size.c), moments2 = moments_of(size, x2, size.c2);
    launch(Reference{}, op.params(Activation::silu, true, on_host));
    GroupNormForward<T> given = op.params(Activation::silu, true, on_device);
    given.moments = moments.device();
    given.moments2 = moments2.device();
    run_everywhere_alike(
        [&] {
          const std::int64_t before = Executor::instance().launches();
          run_by(Kernels::streaming, given);
          if (Executor::counts) REQUIRE(Executor::instance().launches() - before == 2);
        },
        op.y, op.mean, op.rstd);
    CHECK(error_of(op.y) < tolerance);
    CHECK(error_of_mean(op) < 1e-6);
    CHECK(error_of(op.rstd) < tolerance);
  }
}

TEST_CASE("one launch for samples that fit into the registers of a block, else three", "[executor]") {
  const auto launches = [](const Size& size) {
    Forward<float> op(size);
    const std::int64_t before = Executor::instance().launches();
    simt::kernels::run(op.params(Activation::none, false, on_device));
    return Executor::instance().launches() - before;
  };
  CHECK(launches({1, 2048, 4, 0, 1}) == 1);
  CHECK(launches({1, 2049, 4, 0, 1}) == 3);
  CHECK(launches({1, 512, 64, 0, 4}) == 1);  // 16 channels of a pixel are 64 bytes
  CHECK(launches({1, 513, 64, 0, 4}) == 3);
  CHECK(launches({1, 129, 64, 0, 1}) == 3);  // the group is too large
}

TEST_CASE("the backward takes two launches for samples that fit into the shared memory of a block, else four",
          "[executor]") {
  const auto launches = [](const Size& size) {
    Backward<float> op(size);
    const std::int64_t before = Executor::instance().launches();
    simt::kernels::run(op.params(Activation::none, false, Add::nothing, on_device));
    return Executor::instance().launches() - before;
  };
  CHECK(launches({1, 2048, 4, 0, 1}) == 2);
  CHECK(launches({1, 4096, 4, 0, 1}) == 2);
  CHECK(launches({1, 4097, 4, 0, 1}) == 4);
  CHECK(launches({1, 1024, 64, 0, 4}) == 2);  // 16 channels of a pixel are 64 bytes
  CHECK(launches({1, 1025, 64, 0, 4}) == 4);
}

// A mean of 1000 is no better than half a unit in its last place, 2^-15, and takes that from every x - mean.
// The variance feels the same of the means of its parts, which average out; squares of x would leave it
// nothing.
TEST_CASE("a mean far from zero") {
  for (const Size& size : {Size{2, 64, 48, 0, 4}, Size{1, 600, 64, 0, 4}, Size{2, 300, 5, 7, 3}})
    for (const Kernels kernels : {Kernels::chosen, Kernels::streaming}) {
      Forward<float> op(size);
      for (Operand<float>* x : {&op.x, &op.x2})
        for (std::size_t i = 0; i < x->size(); ++i) x->host()[i] += 1000;
      for (std::size_t c = 0; c < size.channels(); ++c) op.gamma.host()[c] = 1;
      for (Operand<float>* x : {&op.x, &op.x2, &op.gamma})
        CudaSim{}.upload(x->device(), x->host(), x->size() * sizeof(float));
      launch(Reference{}, op.params(Activation::none, false, on_host));
      run_by(kernels, op.params(Activation::none, false, on_device));
      const std::vector<float> y = op.y.device_values();
      double error = 0;
      for (std::size_t i = 0; i < y.size(); ++i)
        error = std::max(error, std::abs(static_cast<double>(y[i]) - static_cast<double>(op.y.host()[i])));
      CHECK(error < 2 * 0x1p-15);
      CHECK(error_of_mean(op) < 1.1 * 0x1p-14);
      CHECK(error_of(op.rstd) < 3e-6);
    }
}

namespace {

constexpr Size counted{2, 512, 64, 0, 16};  // 16 packs of channels, so that a block of 8 warps has a sample
constexpr std::int64_t counted_blocks = 2, counted_warps = 8;
constexpr std::int64_t counted_bytes = std::int64_t{2} * 512 * 64 * 4;

// All requests of x and y are of 512 bytes and touch no sector in vain: 4 for each 128 bytes.
void check_activations(const GlobalTraffic& traffic, std::int64_t bytes) {
  CHECK(traffic.requests == bytes / 512);
  CHECK(traffic.sectors == bytes / sector_bytes);
  CHECK(traffic.sectors_of_blocks == bytes / sector_bytes);
}

}  // namespace

TEST_CASE("normalising reads x once and writes y once, in whole sectors") {
  if (!Executor::instance().has_hooks()) return;
  Forward<float> op(counted);
  simt::kernels::run_streaming(op.params(Activation::silu, false, on_device));
  GlobalTraffic loads = counters().global_loads;
  // A warp reads gamma and beta of 64 channels in one request each, and mean and rstd of 16 groups once for
  // each of the four channels of a pack.
  loads.requests -= counted_blocks * counted_warps * (1 + 1 + 4 + 4);
  loads.sectors -= counted_blocks * counted_warps * (8 + 8 + 4 * 2 + 4 * 2);
  loads.sectors_of_blocks -= counted_blocks * (8 + 8 + 2 + 2);
  check_activations(loads, counted_bytes);
  check_activations(counters().global_stores, counted_bytes);
  CHECK(static_cast<double>(counters().global_bytes()) <= 1.02 * 2 * counted_bytes);
}

TEST_CASE("samples in registers are read and written once") {
  if (!Executor::instance().has_hooks()) return;
  Forward<float> op({2, 128, 64, 0, 16});
  simt::kernels::run(op.params(Activation::silu, false, on_device));
  CHECK(static_cast<double>(counters().global_bytes()) <= 1.02 * 2 * counted_bytes / 4);
}

TEST_CASE("the backward reads x and dy once or twice and writes dx once, without bank conflicts") {
  if (!Executor::instance().has_hooks()) return;
  for (const Kernels kernels : {Kernels::chosen, Kernels::streaming}) {
    Backward<float> op(counted);
    Counters& sum = Executor::instance().sum = {};
    run_by(kernels, op.params(Activation::silu, false, Add::nothing, on_device));
    const int times = kernels == Kernels::chosen ? 3 : 5;
    CHECK(static_cast<double>(sum.global_bytes()) <= 1.02 * times * counted_bytes);
    Backward<bf16> of_pairs({2, 64, 128, 0, 32});  // of groups to each pack
    run_by(kernels, of_pairs.params(Activation::silu, false, Add::nothing, on_device));
    CHECK(sum.shared_loads.bank_conflicts + sum.shared_stores.bank_conflicts == 0);
  }
}
