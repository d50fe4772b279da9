// SPDX-License-Identifier: MIT
#include "golden_sim.hpp"

#include <ddpm/ddpm.cuh>

#include "../simt/cuda_sim.hpp"
#include "check_folders.hpp"

namespace golden {

int check_folders_on_sim(const std::vector<std::string>& folders) {
  return check_folders(folders, ddpm::CudaSim{}, cpu_limits);
}

}  // namespace golden
