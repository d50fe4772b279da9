# Catch2 of either major version: Debian 12 has 2.13, Ubuntu 24.04 has 3.4. tests/catch_shim.hpp hides the difference.
find_package(Catch2 3 QUIET)
if(NOT Catch2_FOUND)
  find_package(Catch2 2 QUIET)
endif()
if(NOT Catch2_FOUND)
  message(FATAL_ERROR "ddpm: the tests need Catch2: install the package catch2, or pass -DDDPM_TESTS=OFF.")
endif()
