# The CUDA compiler, where there is one: TESSERA_CUDA is then ON unless it was set OFF. Sanitizer
# builds go without: nvcc knows none of their flags, and the kernels run on the CPU in them
# (kernels/simulated).
include(CheckLanguage)

set(TESSERA_CUDA_ARCHITECTURES "80;90a" CACHE STRING "GPUs that kernels are compiled for")
if(NOT DEFINED TESSERA_CUDA)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER AND NOT TESSERA_SANITIZER)
    set(found ON)
  else()
    set(found OFF)
  endif()
  set(TESSERA_CUDA ${found} CACHE BOOL "Compile the CUDA kernels for GPUs")
endif()

if(TESSERA_CUDA)
  set(CMAKE_CUDA_ARCHITECTURES ${TESSERA_CUDA_ARCHITECTURES})
  enable_language(CUDA)
  # CMake 3.25 does not know nvcc 13's flag for what CMAKE_CXX_STANDARD asks of CUDA too.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  message(STATUS "CUDA kernels for ${TESSERA_CUDA_ARCHITECTURES} by ${CMAKE_CUDA_COMPILER}")
endif()
