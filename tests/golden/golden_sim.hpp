// SPDX-License-Identifier: MIT
// golden_check on CudaSim, in a file of its own because kernels are compiled for the host there.
#pragma once

#include <string>
#include <vector>

namespace golden {

int check_folders_on_sim(const std::vector<std::string>& folders);

}  // namespace golden
