# Proves the one-way dependencies by reading every #include line of ours:
#
#   cmake -DSOURCE_DIR=<tree> -P check_includes.cmake      # fails and names each line that breaks one
#
#   kernels, proto   include nothing of ours outside themselves
#   worker           itself, kernels, proto
#   coordinator      itself, proto
#   rooms            their sub-folders: itself and what the table below names, nothing else
#   build files      CMake files of these folders, benchmarks and deploy name nothing of tests/
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

# "room: rooms it may include". A room is a folder without those of its sub-folders that have a line
# of their own; a line of a single file lets that file, which puts parts together, see more than its
# folder. "/*" is the folder and all below it. A folder without a line is refused.
set(rooms
  "kernels:"
  "kernels/cpu: kernels"
  "kernels/cuda: kernels"
  "kernels/simulated: kernels kernels/cuda"
  "kernels/device_factory.cc: kernels/*"

  "proto/base:"
  "proto/model: proto/base proto/wire"
  "proto/flags: proto/base proto/model"
  "proto/wire: proto/base"

  # The files of a model; a format's folder knows what is common, not the other formats.
  "worker/files: kernels proto/base proto/model proto/wire"
  "worker/files/gguf: worker/files kernels proto/base proto/model proto/wire"
  "worker/files/hf: worker/files kernels proto/base proto/model proto/wire"
  "worker/files/open_model.cc: worker/files/* proto/base proto/model"
  "worker/files/dummy_model.cc: worker/files/* proto/base proto/model"
  "worker/comm: kernels proto/base proto/model proto/wire"
  "worker/comm/simulated: kernels kernels/simulated"
  "worker/comm/nccl_links.cc: worker/comm kernels kernels/cuda proto/base"
  "worker/model: worker/files worker/comm kernels proto/base proto/model proto/wire"
  "worker/engine: worker/model worker/files worker/comm kernels proto/base proto/model proto/wire"
  "worker/group: worker/engine worker/model worker/files worker/comm kernels proto/*"

  # The schedule knows no text: a grammar is one of its constraints.
  "coordinator/text/tokenizer: proto/base proto/model proto/wire"
  "coordinator/text: coordinator/text/tokenizer proto/base"
  "coordinator/text/jinja: coordinator/text coordinator/text/tokenizer proto/base"
  "coordinator/text/chat: coordinator/text/* proto/base proto/model proto/wire"
  "coordinator/schedule: proto/base proto/model proto/wire"
  "coordinator/grammar: coordinator/schedule coordinator/text/tokenizer proto/base proto/model
                        proto/wire"
  "coordinator/plan: proto/base proto/model proto/wire"
  "coordinator/group: coordinator/plan proto/base proto/model proto/wire"
  "coordinator/simulate: coordinator/group coordinator/plan proto/base proto/model proto/wire"
  "coordinator/engine: coordinator/grammar coordinator/group coordinator/plan coordinator/schedule
                       coordinator/text/* proto/base proto/model proto/wire"
  "coordinator/router: coordinator/engine coordinator/grammar coordinator/group coordinator/plan
                       coordinator/schedule coordinator/text/* proto/base proto/model proto/wire"
  "coordinator/front: coordinator/router coordinator/engine coordinator/text/* proto/base
                      proto/model proto/wire"
  "coordinator/grpc: coordinator/front coordinator/router coordinator/engine proto/base proto/model
                     proto/wire"
  "coordinator/openai: coordinator/front coordinator/router coordinator/engine coordinator/text/*
                       proto/base proto/model proto/wire"
  "coordinator/http: coordinator/openai coordinator/front coordinator/router coordinator/engine
                     proto/base proto/model proto/wire"
  "coordinator/cli: coordinator/* proto/*")

# The table as variables, for other scripts too: room_names; allowed_<room>.
set(room_names "")
foreach(line IN LISTS rooms)
  string(REGEX MATCH "^([^:]+):(.*)$" line "${line}")
  set(room ${CMAKE_MATCH_1})
  string(REGEX MATCHALL "[^ \t\n]+" allowed_${room} "${CMAKE_MATCH_2}")
  list(APPEND room_names ${room})
endforeach()

# The room of a path: the line with the longest name that is the path or a folder above it.
function(room_of path result)
  set(at ${path})
  while(at)
    if(at IN_LIST room_names)
      set(${result} ${at} PARENT_SCOPE)
      return()
    endif()
    string(REGEX REPLACE "(^|/)[^/]+$" "" at "${at}")
  endwhile()
  set(${result} "" PARENT_SCOPE)
endfunction()

# Whether a file of one room may include a file of another.
function(allowed from to result)
  set(${result} OFF PARENT_SCOPE)
  foreach(pattern ${from} ${allowed_${from}})
    string(REGEX REPLACE "/\\*$" "" folder "${pattern}")
    if(to STREQUAL folder)
      set(${result} ON PARENT_SCOPE)
    elseif(NOT folder STREQUAL pattern)
      string(FIND "${to}/" "${folder}/" at)
      if(at EQUAL 0)
        set(${result} ON PARENT_SCOPE)
      endif()
    endif()
  endforeach()
endfunction()

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
    get_filename_component(folder_of_file ${file} DIRECTORY)
    room_of(${file} room)
    # A folder two deep is named by a line of its own or of its parent, never by "kernels" alone.
    if(NOT room OR (NOT room STREQUAL folder_of_file AND NOT room STREQUAL file))
      report("${file}" "(its folder)" "no line of the rooms' table is '${folder_of_file}'")
    endif()
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
      elseif(path MATCHES "^tessera/" AND room STREQUAL "proto/base")
        report("${file}" "${line}" "proto/base knows no message; this is a generated proto")
      elseif(top IN_LIST ours AND path MATCHES "/" AND room)
        room_of(${path} included)
        allowed(${room} "${included}" may)
        if(NOT may)
          list(JOIN allowed_${room} " " words)
          report("${file}" "${line}" "${room} may include of ours: ${room} ${words}")
        endif()
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

# What is built does not come out of tests/.
file(GLOB_RECURSE build_files RELATIVE ${SOURCE_DIR}
  ${SOURCE_DIR}/kernels/CMakeLists.txt ${SOURCE_DIR}/proto/CMakeLists.txt
  ${SOURCE_DIR}/worker/CMakeLists.txt ${SOURCE_DIR}/coordinator/CMakeLists.txt
  ${SOURCE_DIR}/benchmarks/CMakeLists.txt ${SOURCE_DIR}/deploy/*.cmake)
foreach(file ${build_files})
  file(STRINGS ${SOURCE_DIR}/${file} lines REGEX "(^|[^a-z_])tests/")
  foreach(line IN LISTS lines)
    if(NOT line MATCHES "^[ \t]*#")
      report("${file}" "${line}" "a product's build names nothing of tests/")
    endif()
  endforeach()
endforeach()

if(files_seen EQUAL 0 OR includes_seen EQUAL 0)
  message(FATAL_ERROR "no sources of ours under '${SOURCE_DIR}': nothing was checked")
endif()
if(violations GREATER 0)
  message(FATAL_ERROR "${violations} includes break the layering (${files_seen} files read)")
endif()
message(STATUS "${includes_seen} includes in ${files_seen} files keep the layering")
