// SPDX-License-Identifier: MIT
// A user's program whose own kernels/ directory has a file named as one of the library's.
#include <ddpm/ddpm.hpp>
#include <ddpm/version.hpp>

#include <kernels/launch.cuh>

#include <vector>

int main() {
  const ddpm::Cpu device;
  const std::vector<float> host{0, 0, 0};
  const ddpm::Tensor<float, ddpm::Cpu> x(device, {3}, host);
  ddpm::silu(x, x);
  return x.to_host() == host && consumer::launch() == 42 && ddpm::version.major == DDPM_VERSION_MAJOR ? 0 : 1;
}
