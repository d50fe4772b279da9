// SPDX-License-Identifier: MIT
// golden_cuda DIR...: golden_check on a GPU, in float and in bf16. A program of its own, as golden_check has the same
// kernels compiled for the host. Exit status: 77 where there is no GPU.
#include <ddpm/compiled.hpp>
#include <ddpm/ddpm.hpp>

#include "check_folders.hpp"

int main(int argc, char** argv) {
  int gpus = 0;
  if (cudaGetDeviceCount(&gpus) != cudaSuccess || gpus == 0) {
    std::puts("no GPU found: not run");
    return 77;
  }
  const std::vector<std::string> folders(argv + 1, argv + argc);
  const ddpm::Cuda device;
  const int failed = golden::check_folders<float>(folders, device, golden::cpu_limits);
  const int failed_in_bf16 = golden::check_folders<ddpm::bf16>(folders, device, golden::bf16_limits);
  return failed != 0 || failed_in_bf16 != 0;
}
