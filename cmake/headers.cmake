# Every header compiles alone: each gets a translation unit that includes it twice and nothing else.

# ddpm_check_headers(TARGET SUFFIX UNIT_SUFFIX ROOT...) makes an object library of one such unit per header under a ROOT
# that ends in SUFFIX. No headers, no library.
function(ddpm_check_headers target suffix unit_suffix)
  set(units)
  foreach(root IN LISTS ARGN)
    file(GLOB_RECURSE headers RELATIVE ${root} CONFIGURE_DEPENDS ${root}/*${suffix})
    foreach(header IN LISTS headers)
      set(unit ${CMAKE_CURRENT_BINARY_DIR}/headers/${header}${unit_suffix})
      file(CONFIGURE OUTPUT ${unit} CONTENT "#include <@header@>\n#include <@header@>\n" @ONLY)
      list(APPEND units ${unit})
    endforeach()
  endforeach()
  if(units)
    add_library(${target} OBJECT ${units})
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-O0>)  # nothing in it is run
    target_link_libraries(${target} PRIVATE ddpm::io ddpm_warnings)
  endif()
endfunction()
