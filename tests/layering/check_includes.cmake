# Proves the one-way dependencies by reading every #include line of ours:
#
#   cmake -DSOURCE_DIR=<tree> -P check_includes.cmake      # fails and names each line that breaks one
#
#   kernels, proto   include nothing of ours outside themselves
#   worker           itself, kernels, proto
#   coordinator      itself, proto
#   gRPC headers     in .cc files anywhere; in headers only under */group, */grpc, */cli, proto/wire
#   MPI headers      only under worker/comm
#   Beast and Asio   only in coordinator/http/http_server.cc and its other half http_connection.h
#                    (and in tests and benchmarks, which are not read here)
#
# Quoted and angle-bracketed includes alike. Generated protos are "tessera/..." and "google/...".
cmake_minimum_required(VERSION 3.25)

set(ours kernels proto worker coordinator tests benchmarks deploy)
set(may_include_kernels kernels)
set(may_include_proto proto)
set(may_include_worker worker kernels proto)
set(may_include_coordinator coordinator proto)

set(violations 0)
function(report file line rule)
  message(NOTICE "${file}: ${line}\n    ${rule}")
  math(EXPR count "${violations} + 1")
  set(violations ${count} PARENT_SCOPE)
endfunction()

set(files_seen 0)
set(includes_seen 0)
foreach(folder kernels proto worker coordinator)
  file(GLOB_RECURSE files RELATIVE ${SOURCE_DIR}
    ${SOURCE_DIR}/${folder}/*.h ${SOURCE_DIR}/${folder}/*.cc ${SOURCE_DIR}/${folder}/*.cu
    ${SOURCE_DIR}/${folder}/*.cuh ${SOURCE_DIR}/${folder}/*.inc ${SOURCE_DIR}/${folder}/*.cpp
    ${SOURCE_DIR}/${folder}/*.hpp)
  foreach(file ${files})
    math(EXPR files_seen "${files_seen} + 1")
    file(STRINGS ${SOURCE_DIR}/${file} lines REGEX "^[ \t]*#[ \t]*include[ \t]*[\"<]")
    foreach(line IN LISTS lines)
      math(EXPR includes_seen "${includes_seen} + 1")
      string(REGEX REPLACE "^[ \t]*#[ \t]*include[ \t]*[\"<]([^\">]*)[\">].*$" "\\1" path "${line}")

      string(REGEX REPLACE "/.*$" "" top "${path}")
      if(path MATCHES "^\\.\\.?/" OR path MATCHES "/\\.\\./")
        report("${file}" "${line}" "includes are written from the repository root, without . or ..")
      elseif(top IN_LIST ours AND path MATCHES "/" AND NOT top IN_LIST may_include_${folder})
        report("${file}" "${line}" "${folder} may include of ours: ${may_include_${folder}}")
      elseif(path MATCHES "^tessera/" AND folder STREQUAL "kernels")
        report("${file}" "${line}" "kernels may include of ours: kernels; this is a generated proto")
      endif()

      if((path MATCHES "^grpc(pp|\\+\\+)?/" OR path MATCHES "\\.grpc\\.pb\\.h$")
         AND file MATCHES "\\.(h|hpp|cuh|inc)$"
         AND NOT file MATCHES "^[^/]+/(group|grpc|cli)/" AND NOT file MATCHES "^proto/wire/")
        report("${file}" "${line}" "gRPC in a header: only under */group, */grpc, */cli, proto/wire")
      endif()

      if(path MATCHES "(^|/)mpi(-ext)?\\.h$" AND NOT file MATCHES "^worker/comm/")
        report("${file}" "${line}" "MPI: only under worker/comm")
      endif()

      if(path MATCHES "^boost/(beast|asio)[./]"
         AND NOT file MATCHES "^coordinator/http/http_(server\\.cc|connection\\.h)$")
        report("${file}" "${line}" "Boost.Beast and Asio: only in coordinator/http/http_server.cc")
      endif()
      if(path STREQUAL "coordinator/http/http_connection.h"
         AND NOT file STREQUAL "coordinator/http/http_server.cc")
        report("${file}" "${line}" "http_connection.h: only in coordinator/http/http_server.cc")
      endif()
    endforeach()
  endforeach()
endforeach()

if(files_seen EQUAL 0 OR includes_seen EQUAL 0)
  message(FATAL_ERROR "no sources of ours under '${SOURCE_DIR}': nothing was checked")
endif()
if(violations GREATER 0)
  message(FATAL_ERROR "${violations} includes break the layering (${files_seen} files read)")
endif()
message(STATUS "${includes_seen} includes in ${files_seen} files keep the layering")
