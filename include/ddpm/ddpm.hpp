// SPDX-License-Identifier: MIT
// The whole library but for files and GPU kernels. Needs a C++20 compiler only; with kernels: ddpm.cuh, with
// files: io.hpp.
#pragma once

#include <ddpm/ops/cpu/activation.hpp>
#include <ddpm/ops/cpu/adamw.hpp>
#include <ddpm/ops/cpu/attention.hpp>
#include <ddpm/ops/cpu/bf16.hpp>
#include <ddpm/ops/cpu/conv2d.hpp>
#include <ddpm/ops/cpu/denoising.hpp>
#include <ddpm/ops/cpu/elementwise.hpp>
#include <ddpm/ops/cpu/embedding.hpp>
#include <ddpm/ops/cpu/group_norm.hpp>
#include <ddpm/ops/cpu/linear.hpp>
#include <ddpm/ops/cpu/loss.hpp>
#include <ddpm/ops/cpu/noising.hpp>
#include <ddpm/ops/cpu/reduce.hpp>
#include <ddpm/ops/cpu/resample.hpp>

#include <ddpm/ops/reference/activation.hpp>
#include <ddpm/ops/reference/adamw.hpp>
#include <ddpm/ops/reference/attention.hpp>
#include <ddpm/ops/reference/conv2d.hpp>
#include <ddpm/ops/reference/denoising.hpp>
#include <ddpm/ops/reference/elementwise.hpp>
#include <ddpm/ops/reference/embedding.hpp>
#include <ddpm/ops/reference/group_norm.hpp>
#include <ddpm/ops/reference/linear.hpp>
#include <ddpm/ops/reference/loss.hpp>
#include <ddpm/ops/reference/noising.hpp>
#include <ddpm/ops/reference/reduce.hpp>
#include <ddpm/ops/reference/resample.hpp>

#include <ddpm/diffusion/diffusion.hpp>
#include <ddpm/models/unet.hpp>
#include <ddpm/core/torch_generator.hpp>
#include <ddpm/train/ema.hpp>
#include <ddpm/train/loader.hpp>
#include <ddpm/train/optimizer.hpp>
#include <ddpm/train/plan.hpp>
#include <ddpm/train/progress.hpp>
#include <ddpm/train/stop_signals.hpp>
#include <ddpm/train/trainer.hpp>
#include <ddpm/train/training_step.hpp>
