# ddpm::compiled: the kernels, for the GPUs of CMAKE_CUDA_ARCHITECTURES, compiled once for programs of plain C++ that include
# ddpm/compiled.hpp. Built only where it is linked. Needs CUDA as a language of the project, and the folder of its sources in
# ddpm_compiled_dir.
find_package(CUDAToolkit REQUIRED)
add_library(ddpm_compiled STATIC EXCLUDE_FROM_ALL
  ${ddpm_compiled_dir}/attention.cu ${ddpm_compiled_dir}/conv2d.cu ${ddpm_compiled_dir}/group_norm.cu
  ${ddpm_compiled_dir}/pointwise.cu)
add_library(ddpm::compiled ALIAS ddpm_compiled)
target_link_libraries(ddpm_compiled PUBLIC ddpm::ddpm CUDA::cudart_static)
