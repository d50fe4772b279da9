# Every header compiles alone: each gets a translation unit that includes it twice and nothing else.

# ddpm_check_headers(TARGET UNIT_SUFFIX [HEADER...]) makes an object library of one such unit per header, which is named
# as in #include. No headers, no library.
function(ddpm_check_headers target unit_suffix)
  set(units)
  foreach(header IN LISTS ARGN)
    set(unit ${CMAKE_CURRENT_BINARY_DIR}/headers/${header}${unit_suffix})
    file(CONFIGURE OUTPUT ${unit} CONTENT "#include <@header@>\n#include <@header@>\n" @ONLY)
    list(APPEND units ${unit})
  endforeach()
  if(units)
    add_library(${target} OBJECT ${units})
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-O0>)  # nothing in it is run
    target_link_libraries(${target} PRIVATE ddpm::io ddpm_warnings)
  endif()
endfunction()
