# cmake -D COMPILER=... -D SOURCE=... -D ROOT=... -P driver.cmake: compiles one case and compares with what it expects.
cmake_minimum_required(VERSION 3.25)

file(STRINGS ${SOURCE} expected REGEX "^// expect: .+")
file(STRINGS ${SOURCE} must_compile REGEX "^// expect-success$")
if(NOT expected AND NOT must_compile)
  message(FATAL_ERROR "${SOURCE} says neither `// expect: TEXT` nor `// expect-success`")
endif()

execute_process(
  COMMAND ${COMPILER} -std=c++20 -fsyntax-only -I${ROOT}/include -I${ROOT}/kernels ${SOURCE}
  RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)

if(must_compile)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${SOURCE} must compile, but:\n${output}")
  endif()
  return()
endif()
if(code EQUAL 0)
  message(FATAL_ERROR "${SOURCE} compiles, and must not")
endif()
foreach(line IN LISTS expected)
  string(REGEX REPLACE "^// expect: " "" text "${line}")
  string(FIND "${output}" "${text}" place)
  if(place EQUAL -1)
    message(FATAL_ERROR "${SOURCE} must stop with: ${text}\nbut stops with:\n${output}")
  endif()
endforeach()
