// SPDX-License-Identifier: MIT
#include "golden_sim.hpp"

#include <ddpm/ddpm.cuh>

#include "../simt/cuda_sim.hpp"
#include "check_folders.hpp"

namespace golden {

template <class T>
int check_folders_on_sim(const std::vector<std::string>& folders, const Limits& limits) {
  return check_folders<T>(folders, ddpm::CudaSim{}, limits);
}

template int check_folders_on_sim<float>(const std::vector<std::string>&, const Limits&);
template int check_folders_on_sim<ddpm::bf16>(const std::vector<std::string>&, const Limits&);

}  // namespace golden
