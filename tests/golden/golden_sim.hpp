// SPDX-License-Identifier: MIT
// golden_check on CudaSim, in a file of its own because kernels are compiled for the host there.
#pragma once

#include <string>
#include <vector>

namespace golden {

struct Limits;

// Models of T: float or bf16.
template <class T>
int check_folders_on_sim(const std::vector<std::string>& folders, const Limits& limits);

}  // namespace golden
