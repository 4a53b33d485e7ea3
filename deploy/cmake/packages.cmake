# The packages Tessera is built on. All but CUDA and NCCL are required; deploy/packages.txt lists
# the Debian names.

find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(MPI REQUIRED COMPONENTS CXX)
find_package(nlohmann_json 3.10 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_package(Boost 1.81 REQUIRED)                # headers: Beast and Asio
find_package(prometheus-cpp CONFIG REQUIRED)     # its core alone; the HTTP door serves /metrics
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
if(TESSERA_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()
if(TESSERA_BUILD_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()

# GPUs are found or not, never required: TESSERA_CUDA (cuda.cmake) and TESSERA_NCCL say what was
# found, and stand in CMake files only; in code they are the factories' TESSERA_HAS_...
# (kernels/device_factory.cc, worker/comm/link_factory.cc). -DTESSERA_CUDA=OFF does without.
set(TESSERA_NCCL OFF)
if(TESSERA_CUDA)
  find_package(CUDAToolkit 13 QUIET)
  if(CUDAToolkit_FOUND AND TARGET CUDA::cublasLt)
    message(STATUS "CUDA toolkit ${CUDAToolkit_VERSION} found")
    find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
  else()
    set(TESSERA_CUDA OFF)
  endif()
  if(NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
    set(TESSERA_NCCL ON)
    message(STATUS "NCCL found: ${NCCL_LIBRARY}")
  endif()
endif()
if(NOT TESSERA_CUDA)
  message(STATUS "no CUDA toolkit, or not wanted: CPU only")
endif()
