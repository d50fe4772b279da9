// SPDX-License-Identifier: MIT
// Our kernels on a GPU beside cuDNN (convolutions) and cuBLAS (linear layers), and whole steps of a U-Net.
//
//   ./gpu_benchmark --batch=128 --benchmark_filter=conv2d/forward/bf16 --benchmark_out=gpu.json
//
// Rows of tf32 are those of float with FloatProducts::tf32, ours and the libraries'.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>

#include <benchmark/benchmark.h>

#include <ddpm/compiled.hpp>

#include "gpu_case.hpp"
#include "network.hpp"
#include "vendor.hpp"

namespace ddpm::benchmarks {

namespace {

const Cuda& device() {
  static const Cuda device;
  return device;
}

Cuda device(Arithmetic arithmetic) {
  Cuda other = device();
  if (arithmetic == Arithmetic::tf32) other.float_products = FloatProducts::tf32;
  return other;
}

template <class T>
constexpr Arithmetic arithmetic_of = std::is_same_v<T, bf16> ? Arithmetic::bf16 : Arithmetic::float32;
constexpr const char* names[] = {"float", "tf32", "bf16"};

// Those of products of T.
template <class T>
const std::vector<Arithmetic> arithmetics =
    std::is_same_v<T, bf16> ? std::vector{Arithmetic::bf16}
                            : std::vector{Arithmetic::float32, Arithmetic::tf32};

// Standard normal numbers: zeros would take less power, and be faster.
template <class T = float>
Tensor<T, Cuda> normal(const Shape& shape) {
  Tensor<T, Cuda> tensor(device(), shape);
  launch(device(), FillNormal<T>{tensor.data(), {}, 1, tensor.numel()});
  return tensor;
}

// A launch with parameters that borrow from `memory`, which it keeps.
template <class Memory, class Params>
GpuCall call_of(const std::shared_ptr<Memory>& memory, const Params& params, const Cuda& on = device(),
                Work baseline = {}) {
  return {[memory, params, on] { launch(on, params); }, cost(params), std::move(baseline)};
}

using Cases = std::vector<GpuCase>;

template <class Prepare>
void add(Cases& cases, Arithmetic arithmetic, const std::string& op, const std::string& shape,
         Prepare prepare) {
  cases.push_back({op + "/" + names[static_cast<int>(arithmetic)] + "/" + shape, arithmetic, prepare});
}

// The 3x3 convolutions of the CIFAR-10 U-Net of Ho et al. 2020.
struct Layer {
  int size, in, out, stride = 1;

  Conv2dGeometry geometry(int n) const {
    const int p = size / stride;
    return {n, size, size, in, 0, out, 3, stride, 1, 1, 1, p, p};
  }
  std::string name() const {
    return message(size, "x", size, "_", in, "to", out, stride == 2 ? "_stride2" : "");
  }
};
constexpr Layer layers[] = {{32, 3, 128},      {32, 128, 128}, {32, 256, 128}, {32, 256, 256}, {32, 384, 128},
                            {32, 128, 3},      {16, 256, 256}, {16, 512, 256}, {16, 384, 256}, {16, 128, 256},
                            {32, 128, 128, 2}, {8, 256, 256},  {8, 512, 256},  {4, 256, 256},  {4, 512, 256}};

template <class T>
struct Convolution {
  Conv2dGeometry g;
  Tensor<T, Cuda> x = normal<T>({g.n, g.h, g.w, g.c}), weight = normal<T>({g.cout, 3, 3, g.c}),
                  y = normal<T>({g.n, g.p, g.q, g.cout});
  Tensor<float, Cuda> dweight = normal(weight.shape());

  Conv2dForward<T> forward() const {
    return {g, x.data(), nullptr, weight.data(), nullptr, nullptr, nullptr, nullptr, 1, y.data()};
  }
  Conv2dBackwardData<T> backward_data() const {
    return {g, y.data(), weight.data(), nullptr, x.data(), nullptr};
  }
  Conv2dBackwardWeight<T> backward_weight() const { return {g, x.data(), nullptr, y.data(), dweight.data()}; }
};

template <class T>
struct Linear {
  std::int64_t m;
  int in, out;
  Tensor<T, Cuda> x = normal<T>({m, in}), weight = normal<T>({out, in}), y = normal<T>({m, out});
  Tensor<float, Cuda> dweight = normal(weight.shape());

  LinearForward<T> forward() const {
    return {x.data(), weight.data(), nullptr, nullptr, nullptr, 1, y.data(), m, in, out};
  }
  LinearBackwardData<T> backward_data() const {
    return {y.data(), weight.data(), nullptr, x.data(), m, in, out};
  }
  LinearBackwardWeight<T> backward_weight() const { return {x.data(), y.data(), dweight.data(), m, in, out}; }
};

constexpr auto cudnn = [](const Cuda& on, const auto& params) { return vendor::cudnn(on, params); };
constexpr auto cublas = [](const Cuda& on, const auto& params) { return vendor::cublas(on, params); };

// The three passes of a layer, beside a library's. make() returns the problem.
template <class T, class Make, class Library>
void add_passes(Cases& cases, const std::string& op, const std::string& shape, Make make, Library library) {
  using Problem = decltype(make());
  const auto add_pass = [&](const char* name, auto params_of) {
    for (const Arithmetic arithmetic : arithmetics<T>)
      add(cases, arithmetic, op + name, shape, [=] {
        const auto problem = std::make_shared<Problem>(make());
        const auto params = params_of(*problem);
        const Cuda on = device(arithmetic);
        return call_of(problem, params, on, library(on, params));
      });
  };
  add_pass("/forward", [](const Problem& p) { return p.forward(); });
  add_pass("/backward_data", [](const Problem& p) { return p.backward_data(); });
  add_pass("/backward_weight", [](const Problem& p) { return p.backward_weight(); });
}

template <class T>
struct Norm {
  GroupNormGeometry s;
  Tensor<T, Cuda> x = normal<T>({s.n, s.hw, s.c}), y = normal<T>(x.shape()), dx = normal<T>(x.shape());
  Tensor<float, Cuda> gamma = normal({s.c}), beta = normal({s.c}), dgamma = normal({s.c}),
                      dbeta = normal({s.c}), mean = normal({s.n, s.groups}), rstd = normal({s.n, s.groups});

  GroupNormForward<T> forward() const {
    return {s,     x.data(),         nullptr,  gamma.data(), beta.data(), nullptr,
            1e-6f, Activation::silu, y.data(), mean.data(),  rstd.data()};
  }
  GroupNormBackward<T> backward() const {
    return {s,         y.data(),    x.data(),      nullptr,          gamma.data(), beta.data(),
            nullptr,   mean.data(), rstd.data(),   Activation::silu, nullptr,      nullptr,
            dx.data(), nullptr,     dgamma.data(), dbeta.data(),     nullptr};
  }
};

template <class T>
struct Attention {
  AttentionGeometry s;
  float scale = 1 / std::sqrt(float(s.head_dim));
  Tensor<T, Cuda> qkv = normal<T>({s.n, s.tokens, 3 * s.channels()}), dqkv = normal<T>(qkv.shape()),
                  out = normal<T>({s.n, s.tokens, s.channels()}), dout = normal<T>(out.shape());
  Tensor<float, Cuda> logsumexp = normal({s.n, s.heads, s.tokens});

  AttentionForward<T> forward() const { return {s, qkv.data(), scale, out.data(), logsumexp.data()}; }
  AttentionBackward<T> backward() const {
    return {s, qkv.data(), out.data(), dout.data(), logsumexp.data(), scale, dqkv.data()};
  }
};

// Both passes of an op that the libraries have in their graph APIs only.
template <class T, class Make>
void add_both(Cases& cases, const std::string& op, const std::string& shape, Make make) {
  using Problem = decltype(make());
  add(cases, arithmetic_of<T>, op + "/forward", shape, [make] {
    const auto problem = std::make_shared<Problem>(make());
    return call_of(problem, problem->forward());
  });
  add(cases, arithmetic_of<T>, op + "/backward", shape, [make] {
    const auto problem = std::make_shared<Problem>(make());
    launch(device(), problem->forward());
    return call_of(problem, problem->backward());
  });
}

// Images of the U-Net, and what training and sampling do with them.
template <class T>
struct Images {
  int n;
  std::int64_t size = 32 * 32 * 3;
  Tensor<float, Cuda> x = normal({n, size}), target = normal({n, size}), loss = normal({1});
  Tensor<T, Cuda> output = normal<T>({n, size});
  Tensor<std::uint8_t, Cuda> pixels = Tensor<std::uint8_t, Cuda>::zeros(device(), {n, size});
  Tensor<std::int32_t, Cuda> t = Tensor<std::int32_t, Cuda>::zeros(device(), {n});
  Tensor<float, Cuda> levels = normal({1000});
  Tensor<DenoisingCoefficients<float>, Cuda> table{
      device(), {1}, std::vector<DenoisingCoefficients<float>>{{1, 0, 1, 0, 0, 1, 0}}};

  Noising<T> noising() const {
    return {nullptr,
            pixels.data(),
            nullptr,
            t.data(),
            levels.data(),
            levels.data(),
            {},
            true,
            Prediction::epsilon,
            x.data(),
            target.data(),
            n,
            32,
            32,
            3,
            output.data()};
  }
  Denoising<T> denoising() const {
    return {x.data(), output.data(), table.data(), t.data(), 1, nullptr, {}, nullptr, n, size, output.data()};
  }
  MseLoss<T> mse_loss() const {
    return {output.data(), target.data(), nullptr, loss.data(), output.data(), n, size};
  }
};

// The weights of the U-Net.
struct Weights {
  std::int64_t count = 35'746'307;
  Tensor<float, Cuda> value = normal({count}), gradient = normal({count}), first = normal({count}),
                      second = Tensor<float, Cuda>::zeros(device(), {count}), average = normal({count}),
                      squared_norm = normal({1});
  Tensor<AdamWStep, Cuda> step{device(), {1}, std::vector{adamw_step({.lr = 2e-4}, 1, 0.9999)}};

  AdamWUpdate<float> update() const {
    return {value.data(), gradient.data(),     first.data(), second.data(),    average.data(),
            nullptr,      squared_norm.data(), step.data(),  {.grad_clip = 1}, count};
  }
};

template <class T>
void add_ops(Cases& cases, int n) {
  for (const Layer& layer : layers)
    add_passes<T>(
        cases, "conv2d", layer.name(), [=] { return Convolution<T>{layer.geometry(n)}; }, cudnn);
  for (const auto& [tokens, in, out] : {std::array{256, 256, 768}, {256, 256, 256}, {1, 512, 256}})
    add_passes<T>(
        cases, "linear", message(tokens * n, "x", in, "to", out),
        [=, in = in, out = out, m = std::int64_t{tokens} * n] {
          return Linear<T>{m, in, out};
        },
        cublas);
  for (const auto& [size, channels] :
       {std::array{32, 128}, {32, 256}, {32, 384}, {16, 256}, {16, 512}, {8, 256}, {4, 256}})
    add_both<T>(cases, "group_norm_silu", message(size, "x", size, "_", channels),
                [=, hw = size * size, c = channels] {
                  return Norm<T>{{n, hw, c, 0, 32}};
                });
  for (const int tokens : {256, 16})
    add_both<T>(cases, "attention", message(tokens, "_tokens_256"), [=] {
      return Attention<T>{{n, tokens, 1, 256}};
    });
  const auto add_pointwise = [&](const char* op, auto params_of) {
    add(cases, arithmetic_of<T>, op, "32x32_3", [=] {
      const auto images = std::make_shared<Images<T>>(Images<T>{n});
      return call_of(images, params_of(*images));
    });
  };
  add_pointwise("noising", [](const Images<T>& images) { return images.noising(); });
  add_pointwise("reverse_step", [](const Images<T>& images) { return images.denoising(); });
  add_pointwise("mse_loss", [](const Images<T>& images) { return images.mse_loss(); });
}

template <class T>
void add_network(Cases& cases, int n) {
  const auto add_step = [&](const char* name, Work NetworkSteps::*step, int passes) {
    for (const Arithmetic arithmetic : arithmetics<T>)
      add(cases, arithmetic, name, "cifar10", [=] {
        NetworkSteps steps = network_steps<T>(device(arithmetic), n);
        return GpuCall{steps.*step, {0, passes * steps.flops}};
      });
  };
  add_step("unet_forward", &NetworkSteps::forward, 1);
  add_step("training_step", &NetworkSteps::train, 3);  // a backward pass is two
  add_step("sampling_step", &NetworkSteps::sample, 1);
}

Cases cases_of(int n) {
  Cases cases;
  add_ops<bf16>(cases, n);
  add_ops<float>(cases, n);
  add(cases, Arithmetic::float32, "adamw_ema", "cifar10", [] {
    const auto weights = std::make_shared<Weights>();
    return call_of(weights, weights->update());
  });
  add_network<bf16>(cases, n);
  add_network<float>(cases, n);
  return cases;
}

// Takes --batch=N out of the arguments.
int batch_of(int& count, char** arguments) {
  constexpr std::string_view option = "--batch=";
  int batch = 128;
  const auto is_other = [&](const char* argument) {
    if (!std::string_view(argument).starts_with(option)) return true;
    batch = std::atoi(argument + option.size());
    return false;
  };
  count = static_cast<int>(std::stable_partition(arguments, arguments + count, is_other) - arguments);
  check<ConfigError>(batch > 0, "found a --batch of ", batch, ", expected a number of images");
  return batch;
}

int run(int count, char** arguments) {
  const int batch = batch_of(count, arguments);
  benchmark::Initialize(&count, arguments);
  if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 1;
  int gpus = 0;
  if (cudaGetDeviceCount(&gpus) != cudaSuccess || gpus == 0) {
    std::fprintf(stderr, "no GPU found: not run\n");
    return 77;
  }
  benchmark::AddCustomContext("batch", std::to_string(batch));
  return run_cases(device(), cases_of(batch));
}

}  // namespace

}  // namespace ddpm::benchmarks

int main(int argc, char** argv) try {
  return ddpm::benchmarks::run(argc, argv);
} catch (const std::exception& error) {
  std::fprintf(stderr, "gpu_benchmark: %s\n", error.what());
  return 1;
}
