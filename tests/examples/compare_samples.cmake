# cmake -D SAMPLE=PROGRAM -D COMPARE=PROGRAM -D WORK=DIR -D EXPECTED=FILE -D LIMIT=NUMBER -P compare_samples.cmake --
# ARGUMENTS...: runs the sample program with the arguments and compares what it draws with the file.
cmake_minimum_required(VERSION 3.25)

set(arguments)
set(ours FALSE)
foreach(index RANGE ${CMAKE_ARGC})
  if(ours)
    list(APPEND arguments "${CMAKE_ARGV${index}}")
  elseif("${CMAKE_ARGV${index}}" STREQUAL "--")
    set(ours TRUE)
  endif()
endforeach()
file(MAKE_DIRECTORY ${WORK})
execute_process(COMMAND ${SAMPLE} ${arguments} --raw ${WORK}/samples.safetensors COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${COMPARE} ${WORK}/samples.safetensors ${EXPECTED} ${LIMIT} COMMAND_ERROR_IS_FATAL ANY)
