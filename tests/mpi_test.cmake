# tessera_mpi_test(name NPROCS 1 2 4 SOURCES ... DEPS ... [TIMEOUT s] [LABELS ...])
#
# One program, registered with ctest once per number of processes as name_np1, name_np2, ... Each
# runs the whole program on every rank. The program's sources have their own main, which owns MPI.
#
# TESSERA_MPIRUN is the command line in front of "-n N program", for tests that launch it
# themselves: runs as root, with more ranks than cores, ends a job at once when a rank dies, and
# (together with PMIX_MCA_gds=hash in its environment) shares no files that a killed mpirun leaves.

set(TESSERA_MPIRUN ${MPIEXEC_EXECUTABLE} --allow-run-as-root --oversubscribe --bind-to none
    --mca mpi_yield_when_idle 1 --mca odls_base_sigkill_timeout 0 --mca rtc ^hwloc)

# Open MPI and its helpers keep memory until the process ends, and synchronize in ways that the
# thread sanitizer cannot see because they are not built with it.
set(TESSERA_MPI_TEST_ENVIRONMENT
    "PMIX_MCA_gds=hash"
    "ASAN_OPTIONS=detect_leaks=0"
    "TSAN_OPTIONS=ignore_noninstrumented_modules=1")

function(tessera_mpi_test name)
  tessera_check_test_name(${name})
  cmake_parse_arguments(ARG "" "TIMEOUT" "NPROCS;SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE tessera_options ${ARG_DEPS} GTest::gmock GTest::gtest)
  foreach(nprocs ${ARG_NPROCS})
    set(test ${name}_np${nprocs})
    add_test(NAME ${test} COMMAND ${TESSERA_MPIRUN} -n ${nprocs} $<TARGET_FILE:${name}>)
    set_tests_properties(${test} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "mpi;${ARG_LABELS}"
      RUN_SERIAL ON
      ENVIRONMENT "${TESSERA_MPI_TEST_ENVIRONMENT}")
  endforeach()
endfunction()
