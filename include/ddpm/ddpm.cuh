// SPDX-License-Identifier: MIT
// ddpm.hpp and every CUDA kernel. Needs nvcc, or clang in CUDA mode.
#pragma once

#include <ddpm/ddpm.hpp>

#include <ddpm/kernels/activation.cuh>
#include <ddpm/kernels/adamw.cuh>
#include <ddpm/kernels/attention.cuh>
#include <ddpm/kernels/conv2d.cuh>
#include <ddpm/kernels/denoising.cuh>
#include <ddpm/kernels/elementwise.cuh>
#include <ddpm/kernels/embedding.cuh>
#include <ddpm/kernels/group_norm.cuh>
#include <ddpm/kernels/linear.cuh>
#include <ddpm/kernels/loss.cuh>
#include <ddpm/kernels/noising.cuh>
#include <ddpm/kernels/reduce.cuh>
#include <ddpm/kernels/resample.cuh>
