// SPDX-License-Identifier: MIT
// Runs one fault that the sanitizers find, which end the process: for tests that read its output.
#include <cstdio>
#include <cstring>
#include <vector>

#include "cuda_sim.hpp"
#include "faulty_kernels.hpp"

using namespace ddpm::simt::kernels;

int main(int count, char** arguments) {
  struct Named {
    const char* name;
    Fault fault;
  };
  constexpr Named faults[] = {{"scalar_beyond_end", Fault::scalar_beyond_end},
                              {"scalar_misaligned", Fault::scalar_misaligned},
                              {"shared_index_beyond_end", Fault::shared_index_beyond_end}};
  constexpr std::size_t bytes = 256 * sizeof(float);
  const ddpm::CudaSim device;
  const FaultParams params{static_cast<float*>(device.allocate(bytes)),
                           static_cast<float*>(device.allocate(bytes)), nullptr};
  for (const Named& named : faults)
    if (count == 2 && std::strcmp(named.name, arguments[1]) == 0) {
      run_fault(named.fault, params);
      std::puts("nothing was found");
    }
}
