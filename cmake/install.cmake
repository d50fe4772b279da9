# The install rules: headers in one tree, and the package that find_package(ddpm) reads.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(ddpm_package_dir ${CMAKE_INSTALL_DATADIR}/cmake/ddpm)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ddpm DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.hpp" PATTERN "*.cuh")
install(DIRECTORY ${PROJECT_SOURCE_DIR}/kernels/ddpm DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.hpp" PATTERN "*.cuh" PATTERN "*.cu")

# Two export sets, because the package loads the second only where the libraries of ddpm::io are found.
install(TARGETS ddpm EXPORT ddpm_targets INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS ddpm_io EXPORT ddpm_io_targets)
install(EXPORT ddpm_targets FILE ddpmTargets.cmake NAMESPACE ddpm:: DESTINATION ${ddpm_package_dir})
install(EXPORT ddpm_io_targets FILE ddpmIoTargets.cmake NAMESPACE ddpm:: DESTINATION ${ddpm_package_dir})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/ddpmConfig.cmake.in ${PROJECT_BINARY_DIR}/ddpmConfig.cmake
  INSTALL_DESTINATION ${ddpm_package_dir} PATH_VARS CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/ddpmConfigVersion.cmake
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/ddpmConfig.cmake ${PROJECT_BINARY_DIR}/ddpmConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/cmake/compiled.cmake DESTINATION ${ddpm_package_dir})
