// SPDX-License-Identifier: MIT
#include "planned_gpu.hpp"

#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <typeinfo>

#include <ddpm/ddpm.cuh>

#include "executor.hpp"

namespace ddpm::simt {

namespace {

// Memory that nobody may follow a pointer to.
struct NoMemory {
  static constexpr bool is_host = false;

  void* allocate(std::size_t) const { return reinterpret_cast<void*>(HostPool::alignment); }
  void deallocate(void*, std::size_t) const noexcept {}
  void upload(void*, const void*, std::size_t) const {}
  void download(void*, const void*, std::size_t) const {}
  void copy(void*, const void*, std::size_t) const {}
  void zero(void*, std::size_t) const {}
  void synchronize() const {}
  MemoryStats memory() const { return {}; }
};

// Its kernels are listed by the executor.
struct PlannedGpu : NoMemory {
  static constexpr bool is_gpu = true;
  GpuProperties gpu;

  GpuProperties properties() const { return gpu; }
};

// Lists ops, with what a PlannedGpu would start for them.
struct OpList : NoMemory {
  static constexpr bool is_gpu = false;
  PlannedGpu gpu;
  std::vector<PlannedOp>* ops = nullptr;

  void zero(void*, std::size_t bytes) const {
    ops->push_back({"zero", "", {static_cast<std::int64_t>(bytes)}});
  }
};

std::string demangled(const char* name) {
  char* const plain = abi::__cxa_demangle(name, nullptr, nullptr, nullptr);
  std::string text = plain ? plain : name;
  std::free(plain);
  for (const std::string_view prefix : {"ddpm::kernels::", "ddpm::"})
    for (std::size_t at; (at = text.find(prefix)) != std::string::npos;) text.erase(at, prefix.size());
  return text;
}

// By the program's table of dynamic symbols: debug information would take longer to search.
std::string kernel_symbol(const void* kernel) {
  static std::map<const void*, std::string> names;
  std::string& name = names[kernel];
  Dl_info info{};
  if (name.empty() && dladdr(kernel, &info) && info.dli_sname) name = demangled(info.dli_sname);
  check<ConfigError>(!name.empty(),
                     "planned_gpu: a kernel has no symbol, expected a program that exports them");
  return name;
}

std::string describe(const Conv2dGeometry& s) {
  return message(s.n, " x ", s.h, " x ", s.w, " x ", s.c, s.c2 ? message(" + ", s.c2) : "", " -> ", s.cout,
                 ", ", s.kernel, " x ", s.kernel, s.stride > 1 ? ", stride 2" : "",
                 s.upsample > 1 ? ", upsampled" : "");
}
std::string describe(const GroupNormGeometry& s) { return message(s.n, " x ", s.hw, " x ", s.channels()); }
std::string describe(const AttentionGeometry& s) {
  return message(s.n, " x ", s.tokens, ", ", s.heads, " of ", s.head_dim);
}

template <class Params>
PlannedOp described(const Params& p) {
  PlannedOp op{demangled(typeid(Params).name()), "", {}};
  if constexpr (requires { cost(p); }) op.cost = cost(p);
  if constexpr (requires { describe(p.shape); }) op.shape = describe(p.shape);
  if constexpr (requires { Conv2dGeometry(p.shape); }) op.convolution = p.shape;
  if constexpr (requires { GroupNormGeometry(p.shape); }) op.norm = p.shape;
  if constexpr (requires { p.m, p.in, p.out; }) {
    op.convolution = ddpm::kernels::conv2d_of_linear(p);
    op.shape = message(p.m, " x ", p.in, " -> ", p.out);
  }
  return op;
}

// What `start` starts.
template <class Start>
std::vector<PlannedKernel> listed(Start start) {
  std::vector<Launch> launches;
  Executor::instance().plan = &launches;
  start();
  Executor::instance().plan = nullptr;
  std::vector<PlannedKernel> kernels;
  for (const Launch& launch : launches)
    kernels.push_back({kernel_symbol(launch.kernel), launch.grid, launch.block, launch.shared_bytes});
  return kernels;
}

template <class Params>
void launch(const OpList& device, const Params& params) {
  device.ops->push_back(described(params));
  device.ops->back().kernels = listed([&] { launch(device.gpu, params); });
}

template <class T>
bool conv2d_gives_moments(const OpList& device, const Conv2dGeometry& shape) {
  return ddpm::conv2d_gives_moments<T>(device.gpu, shape);
}

// Calls use(params) with those of a pass that adds nothing.
template <class T, class Use>
auto with_convolution(const Conv2dGeometry& shape, ConvolutionPass pass, Use use) {
  const auto memory = static_cast<T*>(NoMemory{}.allocate(0));
  T* const second = shape.c2 ? memory : nullptr;
  if (pass == ConvolutionPass::forward)
    return use(
        Conv2dForward<T>{shape, memory, second, memory, nullptr, nullptr, nullptr, nullptr, 1, memory});
  if (pass == ConvolutionPass::backward_data)
    return use(Conv2dBackwardData<T>{shape, memory, memory, nullptr, memory, second});
  return use(Conv2dBackwardWeight<T>{shape, memory, second, memory, reinterpret_cast<float*>(memory)});
}

}  // namespace

std::vector<PlannedOp> plan_training_step(const GpuProperties& gpu, const UNetConfig& config, int batch) {
  std::vector<PlannedOp> ops;
  const OpList device{{}, {{}, gpu}, &ops};
  Diffusion diffusion{UNet<bf16, OpList>(device, config), LinearSchedule{}};
  AdamW optimizer{diffusion.model(), {.grad_clip = 1}};
  Ema ema{diffusion.model(), 0.9999};
  const Tensor<std::uint8_t, OpList> pixels(device, {batch, config.height, config.width, config.in_channels});
  Rng rng;
  for (int step = 0; step < 2; ++step) {  // the first prepares what the others use again
    ops.clear();
    diffusion.train_step({.pixels = pixels, .flip = true}, rng);
    optimizer.step(ema);
  }
  return ops;
}

PlannedOp plan_convolution(const Conv2dGeometry& shape, ConvolutionPass pass,
                           const ddpm::kernels::MmaChoice& choice) {
  using namespace ddpm::kernels;
  const PlannedGpu gpu{};
  return with_convolution<bf16>(shape, pass, [&](const auto& p) {
    PlannedOp op = described(p);
    op.kernels = listed([&] {
      if constexpr (requires { p.dweight; })
        with_mma_weight_tile<bf16>(
            choice.tile, [&]<class P>(P) { launch_conv2d_backward_weight_mma<P>(gpu, p, choice.parts); });
      else
        with_mma_tile<bf16>(choice.tile, [&]<class P>(P) { launch_conv2d_mma<P>(gpu, p); });
    });
    return op;
  });
}

std::vector<PlannedKernel> plan_in_float(const GpuProperties& gpu, const Conv2dGeometry& shape,
                                         ConvolutionPass pass) {
  return with_convolution<float>(shape, pass, [&](const auto& p) {
    return listed([&] { launch(PlannedGpu{{}, gpu}, p); });
  });
}

}  // namespace ddpm::simt
