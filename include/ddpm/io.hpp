// SPDX-License-Identifier: MIT
// Files: checkpoints, data sets and pictures. Needs nlohmann/json, zlib and libpng: link ddpm::io.
#pragma once

#include <ddpm/io/cifar10.hpp>
#include <ddpm/io/diffusers.hpp>
#include <ddpm/io/idx.hpp>
#include <ddpm/io/image.hpp>
#include <ddpm/io/parameters.hpp>
#include <ddpm/io/plot.hpp>
#include <ddpm/io/safetensors.hpp>
