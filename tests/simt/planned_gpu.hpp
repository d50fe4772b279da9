// SPDX-License-Identifier: MIT
// What a GPU would do: the ops of a model, and the kernels that the library would start for each, though none runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <ddpm/kernels/arch/executor_interface.hpp>
#include <ddpm/kernels/block/mma_choice.hpp>
#include <ddpm/models/unet_config.hpp>
#include <ddpm/ops/cost.hpp>

namespace ddpm::simt {

struct PlannedKernel {
  std::string name;  // with its template arguments
  dim3 grid, block;
  std::size_t shared_bytes;

  std::int64_t blocks() const { return std::int64_t{grid.x} * grid.y * grid.z; }
};

struct PlannedOp {
  std::string name;  // that of its parameters
  std::string shape;
  Cost cost;
  std::optional<Conv2dGeometry> convolution = {};  // linear layers are some too
  std::optional<GroupNormGeometry> norm = {};
  std::vector<PlannedKernel> kernels = {};
};

// One step of training in bf16: images, noise, the network both ways, AdamW and an average.
std::vector<PlannedOp> plan_training_step(const GpuProperties& gpu, const UNetConfig& config, int batch);

enum class ConvolutionPass { forward, backward_data, backward_weight };

// One convolution of bf16, with the tile given. For the first two passes there is one part.
PlannedOp plan_convolution(const Conv2dGeometry& shape, ConvolutionPass pass,
                           const ddpm::kernels::MmaChoice& choice);

// What one of float would be computed by.
std::vector<PlannedKernel> plan_in_float(const GpuProperties& gpu, const Conv2dGeometry& shape,
                                         ConvolutionPass pass);

}  // namespace ddpm::simt
