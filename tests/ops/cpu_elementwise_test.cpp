// SPDX-License-Identifier: MIT
#include <ddpm/ops/cpu/activation.hpp>
#include <ddpm/ops/cpu/elementwise.hpp>
#include <ddpm/ops/cpu/resample.hpp>
#include <ddpm/ops/reference/activation.hpp>
#include <ddpm/ops/reference/elementwise.hpp>
#include <ddpm/ops/reference/resample.hpp>

#include "cpu_support.hpp"

using namespace ddpm;
using namespace cpu_support;

namespace {

std::int64_t size(const Floats& v) { return static_cast<std::int64_t>(v.size()); }

constexpr std::size_t counts[] = {0, 1, 3, 16, 17, 127, 1000, 40009};

// Copies x to where it is not aligned.
struct Unaligned {
  Floats storage;
  explicit Unaligned(const Floats& x) : storage(x.size() + 1) {
    std::copy(x.begin(), x.end(), storage.begin() + 1);
  }
  float* data() { return storage.data() + 1; }
};

}  // namespace

TEST_CASE("cpu: silu and its gradient", "[cpu][activation]") {
  for (const std::size_t count : counts) {
    Unaligned x(uniform(count, 1, -12, 12)), dy(uniform(count, 2));
    check_against_reference(message("silu of ", count), [&](const auto& device) {
      Outputs out{Floats(count), Floats(count), dy.storage};
      const auto n = static_cast<std::int64_t>(count);
      launch(device, SiluForward<float>{x.data(), out[0].data(), n});
      launch(device, SiluBackward<float>{x.data(), dy.data(), out[1].data(), n});
      launch(device, SiluBackward<float>{x.data(), out[2].data() + 1, out[2].data() + 1, n});
      return out;
    });
  }
}

TEST_CASE("cpu: silu where exp overflows, at infinity and of NaN", "[cpu][activation]") {
  const float infinity = std::numeric_limits<float>::infinity();
  Floats x{-100, -90, -88.8f, -87.4f, -50, -0.0f, 0, 1e-30f, 50, 87.4f, 88.8f, 90, 100, infinity};
  const Floats dy(x.size(), 1);
  check_against_reference("silu", [&](const auto& device) {
    Outputs out{Floats(x.size()), Floats(x.size())};
    launch(device, SiluForward<float>{x.data(), out[0].data(), size(x) - 1});
    launch(device, SiluBackward<float>{x.data(), dy.data(), out[1].data(), size(x) - 1});
    return out;
  });
  for (float& v : x) v = std::numeric_limits<float>::quiet_NaN();
  for (const auto isa : isas()) {
    const Restore restore;
    ddpm::detail::cpu::pin_isa(isa);
    Floats y(x.size()), dx(x.size());
    launch(Cpu{}, SiluForward<float>{x.data(), y.data(), size(x)});
    launch(Cpu{}, SiluBackward<float>{x.data(), dy.data(), dx.data(), size(x)});
    for (std::size_t i = 0; i < x.size(); ++i) CHECK((std::isnan(y[i]) && std::isnan(dx[i])));
  }
}

TEST_CASE("cpu: softmax and its gradient", "[cpu][activation]") {
  const std::pair<int, int> shapes[] = {{1, 1}, {3, 1}, {5, 7}, {4, 16}, {2, 33}, {300, 101}, {1, 5000}};
  for (const auto& [rows, cols] : shapes) {
    const auto count = static_cast<std::size_t>(rows * cols);
    const Floats x = uniform(count, 1, -30, 30), dy = uniform(count, 2);
    Floats y(count);
    launch(Reference{}, SoftmaxForward<float>{x.data(), y.data(), rows, cols});
    check_against_reference(
        message("softmax of ", rows, " x ", cols), [&, rows = rows, cols = cols](const auto& device) {
          Outputs out{Floats(count), Floats(count)};
          launch(device, SoftmaxForward<float>{x.data(), out[0].data(), rows, cols});
          launch(device, SoftmaxBackward<float>{y.data(), dy.data(), out[1].data(), rows, cols});
          return out;
        });
  }
}

TEST_CASE("cpu: add_to and affine", "[cpu][elementwise]") {
  for (const std::size_t count : counts) {
    const Floats x = uniform(count, 1), y = uniform(count, 2);
    check_against_reference(message("add_to of ", count), [&](const auto& device) {
      Outputs out{y, Floats(count)};
      launch(device, AddTo<float>{x.data(), out[0].data(), size(x)});
      launch(device, Affine<float>{x.data(), out[1].data(), -1.7f, 0.3f, size(x)});
      return out;
    });
  }
}

TEST_CASE("cpu: dropout keeps the very elements that Reference keeps", "[cpu][elementwise]") {
  const RandomPosition position{0x123456789abcdefull, 0xfffffffffull, 11, RandomStream::dropout};
  const std::pair<int, int> shapes[] = {{1, 1}, {3, 5}, {2, 64}, {2, 5003}, {1, 10000}};
  for (const auto& [n, per_sample] : shapes)
    for (const double p : {0.0, 0.1, 0.5, 0.999999999999}) {
      const auto count = static_cast<std::size_t>(n) * static_cast<std::size_t>(per_sample);
      const Floats x = uniform(count, 1, 1, 2);
      Floats kept(count);
      launch(Reference{}, Dropout<float>{x.data(), kept.data(), position, p, n, per_sample});
      check_against_reference(
          message("dropout ", p, " of ", n, " x ", per_sample),
          [&, n = n, per_sample = per_sample](const auto& device) {
            Outputs out{Floats(count), x};
            launch(device, Dropout<float>{x.data(), out[0].data(), position, p, n, per_sample});
            launch(device, Dropout<float>{out[1].data(), out[1].data(), position, p, n, per_sample});
            std::size_t wrong = 0;
            for (std::size_t i = 0; i < count; ++i) wrong += (out[0][i] != 0) != (kept[i] != 0);
            CHECK(wrong == 0);
            return out;
          });
    }
}

TEST_CASE("cpu: upsampling and its gradient", "[cpu][resample]") {
  struct Extent {
    int n, h, w, c;
  };
  for (const auto& [n, h, w, c] :
       {Extent{1, 1, 1, 1}, {2, 3, 5, 7}, {1, 4, 4, 64}, {3, 7, 2, 33}, {2, 16, 16, 16}}) {
    const auto count = static_cast<std::size_t>(n * h * w * c);
    const Floats x = uniform(count, 1), dy = uniform(4 * count, 2);
    check_against_reference(message("upsampling of ", Shape{n, h, w, c}),
                            [&, n = n, h = h, w = w, c = c](const auto& device) {
                              Outputs out{Floats(4 * count), Floats(count)};
                              launch(device, UpsampleForward<float>{x.data(), out[0].data(), n, h, w, c});
                              launch(device, UpsampleBackward<float>{dy.data(), out[1].data(), n, h, w, c});
                              return out;
                            });
  }
}
