// SPDX-License-Identifier: MIT
// Files: checkpoints, data sets and pictures. Needs nlohmann/json, zlib, libpng and libjpeg: link ddpm::io.
#pragma once

#include <ddpm/io/cifar10.hpp>
#include <ddpm/io/diffusers.hpp>
#include <ddpm/io/idx.hpp>
#include <ddpm/io/image.hpp>
#include <ddpm/io/image_folder.hpp>
#include <ddpm/io/parameters.hpp>
#include <ddpm/io/plot.hpp>
#include <ddpm/io/safetensors.hpp>
#include <ddpm/io/torch_bin.hpp>
#include <ddpm/io/weights.hpp>
#include <ddpm/io/transform.hpp>
#include <ddpm/io/training_run.hpp>
