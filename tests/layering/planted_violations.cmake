# Shows that check_includes.cmake can fail: plants one violation at a time in a small tree.
#
#   cmake -DCHECKER=check_includes.cmake -DWORK_DIR=<folder> -P planted_violations.cmake
cmake_minimum_required(VERSION 3.25)

# A tree that keeps every rule; each kind of allowed include is in it.
function(plant_clean_tree)
  file(REMOVE_RECURSE ${WORK_DIR})
  file(WRITE ${WORK_DIR}/kernels/a.h "#include <vector>\n#include \"kernels/b.h\"\n")
  file(WRITE ${WORK_DIR}/proto/wire/a.h "#include <grpcpp/support/status.h>\n")
  file(WRITE ${WORK_DIR}/worker/comm/a.cc "#include <mpi.h>\n#include \"kernels/a.h\"\n")
  file(WRITE ${WORK_DIR}/worker/group/a.h
    "#include \"proto/wire/a.h\"\n#include \"tessera/v1/cluster.grpc.pb.h\"\n")
  file(WRITE ${WORK_DIR}/coordinator/grpc/a.h "#include <grpcpp/grpcpp.h>\n")
  file(WRITE ${WORK_DIR}/coordinator/http/http_connection.h "#include <boost/beast/http.hpp>\n")
  file(WRITE ${WORK_DIR}/coordinator/http/http_server.cc
    "#include <boost/asio/post.hpp>\n#include \"coordinator/http/http_connection.h\"\n")
  file(WRITE ${WORK_DIR}/coordinator/text/a.cc
    "// #include \"worker/in_a_comment.h\"\n#include <grpcpp/grpcpp.h>\n")
  file(WRITE ${WORK_DIR}/coordinator/cli/a.cc
    "#include \"coordinator/grpc/a.h\"\n#include \"coordinator/text/jinja/a.h\"\n")
  file(WRITE ${WORK_DIR}/coordinator/text/chat/a.cc
    "#include \"coordinator/text/a.h\"\n#include \"coordinator/text/jinja/a.h\"\n")
  file(WRITE ${WORK_DIR}/coordinator/router/a.h "#include \"coordinator/engine/a.h\"\n")
  file(WRITE ${WORK_DIR}/kernels/device_factory.cc "#include \"kernels/cuda/a.h\"\n")
  file(WRITE ${WORK_DIR}/worker/comm/CMakeLists.txt "# Tried in tests/comm.\nadd_library(x x_tests.cc)\n")
  file(WRITE ${WORK_DIR}/worker/files/open_model.cc "#include \"worker/files/hf/a.h\"\n")
endfunction()

function(run_checker)
  execute_process(COMMAND ${CMAKE_COMMAND} -DSOURCE_DIR=${WORK_DIR} -P ${CHECKER}
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  # CMake wraps its messages at a width that depends on the path.
  string(REGEX REPLACE "[ \t\n]+" " " output "${output}")
  set(result ${result} PARENT_SCOPE)
  set(output "${output}" PARENT_SCOPE)
endfunction()

# The checker must refuse `include_line` in `file`, and name the file and the rule.
function(expect_refused file include_line rule)
  plant_clean_tree()
  file(APPEND ${WORK_DIR}/${file} "${include_line}\n")
  run_checker()
  string(FIND "${output}" "${file}: " names_file)
  string(FIND "${output}" "${rule}" names_rule)
  if(result EQUAL 0 OR names_file LESS 0 OR names_rule LESS 0)
    message(FATAL_ERROR "planted '${include_line}' in ${file}; the checker said (${result}):\n${output}")
  endif()
endfunction()

plant_clean_tree()
run_checker()
if(NOT result EQUAL 0)
  message(FATAL_ERROR "refused a clean tree:\n${output}")
endif()

expect_refused(kernels/a.h "#include \"worker/model/x.h\"" "kernels may include of ours: kernels")
expect_refused(kernels/a.h "#include \"proto/wire/a.h\"" "kernels may include of ours: kernels")
expect_refused(kernels/cpu/x.cc "#include \"tessera/v1/model.pb.h\"" "generated proto")
expect_refused(proto/wire/a.h "#include \"kernels/a.h\"" "proto may include of ours: proto")
expect_refused(proto/wire/x.cc "#include \"coordinator/plan/x.h\"" "proto may include of ours: proto")
expect_refused(worker/engine/x.cc "#include \"coordinator/plan/x.h\"" "worker may include of ours")
expect_refused(worker/engine/x.cc "#include <coordinator/plan/x.h>" "worker may include of ours")
expect_refused(worker/engine/x.cc "#include \"tests/x.h\"" "worker may include of ours")
expect_refused(coordinator/group/x.h "#include \"worker/comm/x.h\"" "coordinator may include of ours")
expect_refused(coordinator/group/x.h "  #  include\t\"kernels/x.h\"" "coordinator may include of ours")
expect_refused(coordinator/group/x.h "#include \"../../worker/x.h\"" "from the repository root")
expect_refused(coordinator/text/x.h "#include <grpcpp/server.h>" "gRPC in a header")
expect_refused(coordinator/text/x.h "#include <grpc/grpc.h>" "gRPC in a header")
expect_refused(worker/engine/x.h "#include \"tessera/v1/cluster.grpc.pb.h\"" "gRPC in a header")
expect_refused(worker/model/x.cc "#include <mpi.h>" "MPI: only under worker/comm")
expect_refused(worker/comm2/x.h "#include \"mpi.h\"" "MPI: only under worker/comm")
expect_refused(coordinator/http/x.cc "#include <boost/beast/http.hpp>" "Boost.Beast and Asio")
expect_refused(coordinator/http/http_server.h "#include <boost/asio.hpp>" "Boost.Beast and Asio")
expect_refused(worker/comm/x.cc "#include <boost/asio/ip/tcp.hpp>" "Boost.Beast and Asio")
expect_refused(coordinator/http/x.cc "#include \"coordinator/http/http_connection.h\""
  "http_connection.h: only in coordinator/http/http_server.cc")

# The order of sub-folders: a room sees what its line of the table names.
expect_refused(kernels/x.cc "#include \"kernels/cpu/x.h\"" "kernels may include of ours: kernels ")
expect_refused(kernels/cpu/x.cc "#include \"kernels/cuda/x.h\"" "kernels/cpu may include of ours")
expect_refused(kernels/cuda/x.cc "#include \"kernels/simulated/x.h\"" "kernels/cuda may include")
expect_refused(proto/base/x.h "#include \"proto/model/x.h\"" "proto/base may include of ours")
expect_refused(proto/base/x.h "#include \"tessera/v1/model.pb.h\"" "proto/base knows no message")
expect_refused(proto/wire/x.h "#include \"proto/model/x.h\"" "proto/wire may include of ours")
expect_refused(worker/files/x.cc "#include \"worker/files/hf/x.h\"" "worker/files may include")
expect_refused(worker/files/gguf/x.cc "#include \"worker/files/hf/x.h\"" "worker/files/gguf may")
expect_refused(worker/files/x.cc "#include \"worker/model/x.h\"" "worker/files may include")
expect_refused(worker/comm/x.cc "#include \"worker/model/x.h\"" "worker/comm may include of ours")
expect_refused(worker/comm/x.cc "#include \"kernels/cuda/x.h\"" "worker/comm may include of ours")
expect_refused(worker/model/x.h "#include \"worker/engine/x.h\"" "worker/model may include of ours")
expect_refused(worker/engine/x.h "#include \"worker/group/a.h\"" "worker/engine may include of ours")
expect_refused(coordinator/text/tokenizer/x.h "#include \"coordinator/text/a.h\""
  "coordinator/text/tokenizer may include of ours")
expect_refused(coordinator/text/jinja/x.h "#include \"coordinator/text/chat/x.h\""
  "coordinator/text/jinja may include of ours")
expect_refused(coordinator/schedule/x.h "#include \"coordinator/grammar/x.h\""
  "coordinator/schedule may include of ours")
expect_refused(coordinator/schedule/x.h "#include \"coordinator/text/tokenizer/x.h\""
  "coordinator/schedule may include of ours")
expect_refused(coordinator/plan/x.h "#include \"coordinator/group/x.h\""
  "coordinator/plan may include of ours")
expect_refused(coordinator/engine/x.h "#include \"coordinator/router/a.h\""
  "coordinator/engine may include of ours")
expect_refused(coordinator/engine/x.h "#include \"coordinator/simulate/x.h\""
  "coordinator/engine may include of ours")
expect_refused(coordinator/router/x.h "#include \"coordinator/front/x.h\""
  "coordinator/router may include of ours")
expect_refused(coordinator/front/x.h "#include \"coordinator/grpc/a.h\""
  "coordinator/front may include of ours")
expect_refused(coordinator/grpc/x.h "#include \"coordinator/openai/x.h\""
  "coordinator/grpc may include of ours")
expect_refused(coordinator/openai/x.h "#include \"coordinator/http/x.h\""
  "coordinator/openai may include of ours")
expect_refused(coordinator/http/x.h "#include \"coordinator/grpc/a.h\""
  "coordinator/http may include of ours")
expect_refused(coordinator/http/x.h "#include \"coordinator/cli/x.h\""
  "coordinator/http may include of ours")
# A folder that the table does not know, and one that hides below a known one.
expect_refused(coordinator/novel/x.h "#include <vector>" "no line of the rooms' table")
expect_refused(coordinator/engine/novel/x.h "#include <vector>" "no line of the rooms' table")
expect_refused(coordinator/cli/x.cc "#include \"coordinator_x/y.h\"\n#include \"kernels/x.h\""
  "coordinator may include of ours")

expect_refused(worker/comm/CMakeLists.txt "add_library(x ../../tests/worker/x.cc)"
  "names nothing of tests/")
expect_refused(deploy/cmake/x.cmake "include(${CMAKE_SOURCE_DIR}/tests/x.cmake)"
  "names nothing of tests/")

file(REMOVE_RECURSE ${WORK_DIR})
run_checker()
if(result EQUAL 0 OR NOT output MATCHES "nothing was checked")
  message(FATAL_ERROR "an empty tree passed:\n${output}")
endif()
message(STATUS "every planted violation was refused")
