# Where the compiler's time goes, in one place: headers that nearly every file of the two programs
# parses are compiled once, and code that nothing waits for is optimized less. Rules go by folder, so
# that a new target has them too. kernels/ has none: what it computes with keeps its own flags.
#
#   tessera_spare_compiler(coordinator)          # after add_subdirectory: every library in and below
#   tessera_use_precompiled(target)              # one library
#
# Precompiled: headers of packages and generated messages, none of ours. A file still includes what
# it uses; tests/clang_check.py reads them without any of this and finds those that do not.

# -O3 gains nothing outside arithmetic; what starts up or shows things to people is content with -O1.
set(TESSERA_FAST_FOLDERS worker/engine worker/model worker/comm)      # as CMAKE_BUILD_TYPE says
set(TESSERA_COLD_FOLDERS  # -O1
  proto/flags coordinator/cli coordinator/group coordinator/plan worker/group)

file(WRITE ${CMAKE_BINARY_DIR}/precompiled.cc.new "int main() {}\n")
configure_file(${CMAKE_BINARY_DIR}/precompiled.cc.new ${CMAKE_BINARY_DIR}/precompiled.cc COPYONLY)

set(TESSERA_PRECOMPILED
  <algorithm> <array> <atomic> <chrono> <cstdint> <functional> <limits> <map> <memory> <mutex>
  <optional> <set> <string> <string_view> <thread> <unordered_map> <utility> <variant> <vector>
  <absl/container/flat_hash_map.h> <absl/container/flat_hash_set.h> <absl/status/statusor.h>
  <absl/strings/str_cat.h> <absl/strings/str_format.h> <absl/strings/str_join.h>
  <absl/strings/str_split.h> <absl/synchronization/mutex.h> <absl/time/time.h> <absl/types/span.h>
  <nlohmann/json.hpp>
  <tessera/v1/cluster.pb.h> <tessera/v1/inference.pb.h> <tessera/v1/model.pb.h>)

# _REENTRANT must be as it was where the headers were compiled.
function(tessera_precompiled_headers target)
  target_link_libraries(${target} PRIVATE tessera_options tessera_proto absl::flat_hash_map
    absl::flat_hash_set absl::statusor absl::strings absl::str_format absl::synchronization
    absl::time absl::span nlohmann_json::nlohmann_json)
  target_compile_options(${target} PRIVATE -pthread $<$<CONFIG:Release>:-O2>)
  target_precompile_headers(${target} PRIVATE ${TESSERA_PRECOMPILED} ${ARGN})
endfunction()

function(tessera_use_precompiled target)
  target_compile_options(${target} PRIVATE -pthread)
  target_precompile_headers(${target} REUSE_FROM tessera_precompiled)
endfunction()

function(tessera_spare_compiler folder)
  get_property(below DIRECTORY ${CMAKE_SOURCE_DIR}/${folder} PROPERTY SUBDIRECTORIES)
  foreach(path IN LISTS below)
    file(RELATIVE_PATH relative ${CMAKE_SOURCE_DIR} ${path})
    tessera_spare_compiler(${relative})
  endforeach()
  get_property(targets DIRECTORY ${CMAKE_SOURCE_DIR}/${folder} PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(type ${target} TYPE)
    if(NOT type STREQUAL "STATIC_LIBRARY")
      continue()
    endif()
    if(folder IN_LIST TESSERA_COLD_FOLDERS)
      target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
    elseif(NOT folder IN_LIST TESSERA_FAST_FOLDERS)
      target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O2>)
    endif()
    tessera_use_precompiled(${target})
  endforeach()
endfunction()
