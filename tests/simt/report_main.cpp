// SPDX-License-Identifier: MIT
// The counters of one run of each op, as lines of JSON for kernels/readme.py. Linked with the kernels of the
// race builds, in which scalar accesses are counted too.
#include <cstdio>
#include <deque>

#include <ddpm/core/tensor.hpp>
#include <ddpm/ops/cost.hpp>

#include "cuda_sim.hpp"
#include "executor.hpp"

namespace ddpm::simt {

namespace kernels {

template <class Params>
void run(const Params& params);

}  // namespace kernels

namespace {

// Zeros on the device, which stay until the program ends.
template <class T>
T* zeros(std::int64_t count) {
  auto array =
      Tensor<T, CudaSim>::zeros(CudaSim{}, {count});  // first: the device outlives what is made after it
  static std::deque<Tensor<T, CudaSim>> arrays;
  return arrays.emplace_back(std::move(array)).data();
}

template <class Params>
void report(const char* family, const char* op, const Params& params) {
  Counters& sum = Executor::instance().sum;
  sum = {};
  kernels::run(params);
  const auto print = [](const char* name, double value) { std::printf(", \"%s\": %.10g", name, value); };
  std::printf("{\"family\": \"%s\", \"op\": \"%s\"", family, op);
  print("sectors_per_load", sum.global_loads.sectors_per_request());
  print("sectors_per_store", sum.global_stores.sectors_per_request());
  print("bank_conflicts",
        static_cast<double>(sum.shared_loads.bank_conflicts + sum.shared_stores.bank_conflicts));
  print("wavefronts", static_cast<double>(sum.shared_loads.wavefronts + sum.shared_stores.wavefronts));
  print("bytes", static_cast<double>(sum.global_bytes()));
  print("least_bytes", static_cast<double>(cost(params).bytes));
  std::printf("}\n");
}

constexpr int n = 2, h = 16, w = 16, c = 64;
constexpr std::int64_t pixels = std::int64_t{n} * h * w, count = pixels * c, per_sample = count / n;

template <class T>
void report_convolution(const char* file, const char* weight_file, const char* linear) {
  const Conv2dGeometry s{n, h, w, c, 0, c, 3, 1, 1, 1, 1, h, w};
  constexpr std::int64_t weights = std::int64_t{c} * 9 * c;
  T *const x = zeros<T>(count), *const y = zeros<T>(count), *const weight = zeros<T>(weights);
  float *const bias = zeros<float>(c), *const dweight = zeros<float>(weights);
  report(file, "forward, 3x3",
         Conv2dForward<T>{s, x, nullptr, weight, nullptr, bias, nullptr, nullptr, 1, y});
  report(file, "backward data, 3x3", Conv2dBackwardData<T>{s, y, weight, nullptr, x, nullptr});
  report(weight_file, "3x3", Conv2dBackwardWeight<T>{s, x, nullptr, y, dweight, bias});
  report(linear, "forward", LinearForward<T>{x, weight, nullptr, bias, nullptr, 1, y, pixels, c, c});
  report(linear, "backward data", LinearBackwardData<T>{y, weight, nullptr, x, pixels, c, c});
  report(linear, "backward weight", LinearBackwardWeight<T>{x, y, dweight, pixels, c, c, bias});
}

void report_normalisation(const char* op, int hw) {
  constexpr int groups = 32;
  const GroupNormGeometry s{n, hw, c, 0, groups};
  const std::int64_t elements = std::int64_t{n} * hw * c;
  bf16 *const x = zeros<bf16>(elements), *const y = zeros<bf16>(elements);
  float *const gamma = zeros<float>(c), *const beta = zeros<float>(c);
  float *const mean = zeros<float>(n * groups), *const rstd = zeros<float>(n * groups);
  report("group_norm", op,
         GroupNormForward<bf16>{s, x, nullptr, gamma, beta, nullptr, 1e-5f, Activation::silu, y, mean, rstd});
  if (hw > h * w) return;
  report("group_norm_backward", "backward",
         GroupNormBackward<bf16>{s, y, x, nullptr, gamma, beta, nullptr, mean, rstd, Activation::silu,
                                 nullptr, nullptr, zeros<bf16>(elements), nullptr, zeros<float>(c),
                                 zeros<float>(c), nullptr});
}

template <class T>
void report_attention(const char* file, const char* backward_file) {
  const AttentionGeometry s{n, 128, 1, 64};
  constexpr std::int64_t out = std::int64_t{n} * 128 * 64;
  T *const qkv = zeros<T>(3 * out), *const y = zeros<T>(out);
  float* const logsumexp = zeros<float>(n * 128);
  report(file, "forward", AttentionForward<T>{s, qkv, 0.125f, y, logsumexp});
  report(backward_file, "backward",
         AttentionBackward<T>{s, qkv, y, zeros<T>(out), logsumexp, 0.125f, zeros<T>(3 * out)});
}

void report_activation() {
  bf16 *const x = zeros<bf16>(count), *const y = zeros<bf16>(count), *const dx = zeros<bf16>(count);
  report("activation", "SiLU", SiluForward<bf16>{x, y, count});
  report("activation", "SiLU backward", SiluBackward<bf16>{x, y, dx, count});
  report("activation", "softmax, 256 columns", SoftmaxForward<bf16>{x, y, count / 256, 256});
  report("activation", "softmax backward", SoftmaxBackward<bf16>{x, y, dx, count / 256, 256});
}

void report_diffusion() {
  Noising<bf16> noising{};
  noising.pixels = zeros<std::uint8_t>(count), noising.model_input = zeros<bf16>(count),
  noising.target = zeros<float>(count);
  noising.t = zeros<std::int32_t>(n), noising.signal = zeros<float>(1), noising.sigma = zeros<float>(1);
  noising.n = n, noising.h = h, noising.w = w, noising.c = c;
  report("noising", "from bytes, with target", noising);
  report("noising", "time steps", DrawTimesteps{zeros<std::int32_t>(256), {}, 256, 1000});
  report("denoising", "reverse step",
         Denoising<bf16>{zeros<float>(count),
                         zeros<bf16>(count),
                         zeros<DenoisingCoefficients<float>>(1),
                         zeros<std::int32_t>(1),
                         1,
                         nullptr,
                         {},
                         nullptr,
                         n,
                         per_sample,
                         zeros<bf16>(count)});
  report("denoising", "counter of steps",
         BeginStep<float>{zeros<DenoisingCoefficients<float>>(2), zeros<std::int32_t>(1),
                          zeros<std::int32_t>(n), n});
  report("denoising", "normal noise", FillNormal<bf16>{zeros<bf16>(count), {}, n, per_sample});
  report("loss", "with gradient",
         MseLoss<bf16>{zeros<bf16>(count), zeros<float>(count), nullptr, zeros<float>(1), zeros<bf16>(count),
                       n, per_sample});
}

void report_training() {
  float* const x = zeros<float>(count);
  report("adamw", "clipping, EMA, bf16 copy",
         AdamWUpdate<float>{zeros<float>(count),
                            x,
                            zeros<float>(count),
                            zeros<float>(count),
                            zeros<float>(count),
                            zeros<bf16>(count),
                            zeros<float>(1),
                            zeros<AdamWStep>(1),
                            {.grad_clip = 1},
                            count});
  report("adamw", "EMA alone", EmaUpdate<float>{x, zeros<float>(count), zeros<double>(1), count});
  report("reduce", "squared norm", SquaredNorm<float>{x, zeros<float>(1), count});
}

void report_rest() {
  bf16 *const x = zeros<bf16>(count), *const y = zeros<bf16>(4 * count);
  report("resample", "upsampling", UpsampleForward<bf16>{x, y, n, h, w, c});
  report("resample", "upsampling backward", UpsampleBackward<bf16>{y, x, n, h, w, c});
  report("elementwise", "addition", AddTo<bf16>{x, y, count});
  report("elementwise", "a x + b", Affine<bf16>{x, y, 2, -1, count});
  report("elementwise", "float to bf16", Cast<float, bf16>{zeros<float>(count), y, count});
  report("elementwise", "dropout", Dropout<bf16>{x, y, {}, 0.1, n, per_sample});
  report("elementwise", "concatenation", Concat<bf16>{x, zeros<bf16>(count), y, pixels, c, c});
  float* const table = zeros<float>(64 * 128);
  std::int32_t* const label = zeros<std::int32_t>(64);
  for (std::int32_t i = 0; i < 64; ++i) CudaSim{}.upload(label + i, &i, sizeof(i));
  report("embedding", "of 64 classes", ClassEmbedding<bf16>{table, label, y, 64, 128});
  report("embedding", "of 64 classes, backward", ClassEmbeddingBackward<bf16>{y, label, table, 64, 128});
  report("embedding", "of 64 time steps",
         TimestepEmbedding<bf16>{zeros<std::int32_t>(64), y, 64, 128, false, 1});
}

}  // namespace

}  // namespace ddpm::simt

int main() {
  ddpm::simt::report_activation();
  ddpm::simt::report_training();
  ddpm::simt::report_attention<float>("attention", "attention");
  ddpm::simt::report_attention<ddpm::bf16>("attention_mma", "attention_mma_backward");
  ddpm::simt::report_convolution<float>("conv2d", "conv2d_backward_weight", "linear");
  ddpm::simt::report_convolution<ddpm::bf16>("conv2d_mma", "conv2d_mma_backward_weight", "linear, bf16");
  ddpm::simt::report_diffusion();
  ddpm::simt::report_normalisation("forward", 16 * 16);
  ddpm::simt::report_normalisation("forward, 64 x 64", 64 * 64);
  ddpm::simt::report_rest();
}
