#!/usr/bin/env bash
# What only a GPU can show: the device suite on the card, alone and under compute-sanitizer, and the
# models. Needs CUDA, g++ and Python; the network is not used. Built by tests/gpu/build_core.sh.
#
#   suite      tests/kernels over the device "cuda"
#   sanitizer  memcheck and racecheck over its smaller tests
#   models     the tiny models and SmolLM2 (TESSERA_TEST_MODEL, a .gguf file) by the worker's engine
#              on 1 rank, and on 2 and 4 that share the card and exchange activations through the
#              host, as with --comm mpi; ranks are threads of one program (tests/gpu/models.cc)
#   mpirun     the same with real MPI, a process for each rank. Only where the packages of
#              deploy/packages.txt are installed; said, where they are not
#
# Usage: tests/gpu.sh [suite|sanitizer|models|mpirun ...]   (default: all)
# TESSERA_GPU_STANDALONE=1 does as if no package were installed; TESSERA_GPU_BUILD_ONLY=1 stops
# before the first program runs (where there is no card); TESSERA_GPU_SIMULATED=1 takes a simulated
# card (kernels/simulated), which "models" asks for less. A program that runs no test has failed: it
# found no card.
set -uo pipefail
cd "$(dirname "$0")/.."
. tests/gpu/build_core.sh

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(suite sanitizer models mpirun)
failed=0
fail() { echo "FAILED: $*"; failed=1; }
suites=(elementwise rotate_and_store sampling matmul attention)

build_suite() {
  core_begin && core_compile || return 1
  local main=()
  if echo '#include <gtest/gtest.h>' | g++ -x c++ -std=c++20 -fsyntax-only - 2>/dev/null &&
     [ -z "${TESSERA_GPU_STANDALONE:-}" ]; then
    LIBRARIES+=(-lgtest_main -lgtest)
  else
    [[ " ${INCLUDES[*]} " == *" -Itests/gpu/standalone "* ]] ||
      INCLUDES=(-Itests/gpu/standalone "${INCLUDES[@]}")
    main=(tests/gpu/standalone/gtest/main.cc)
  fi
  local name
  for name in "${suites[@]}"; do
    core_program "${name}_test" "tests/kernels/${name}_test.cc" tests/kernels/host_ops.cc \
      tests/kernels/kernel_testing.cc "${main[@]}" || return 1
  done
}

# Runs a suite, its output's end shown; fails unless tests ran and passed.
#   run_tests LOG SECONDS COMMAND...
run_tests() {
  local log=$1 seconds=$2 status=0
  shift 2
  timeout "$seconds" "$@" >"$log" 2>&1 || status=$?
  tail -25 "$log"
  [ $status != 124 ] || echo "stopped after $seconds s"
  [ $status = 0 ] || return 1
  grep -qE '^[1-9][0-9]* passed,|^\[  PASSED  \] [1-9]' "$log" && return
  echo "no test ran: is there a GPU, with a driver for this CUDA?"
  return 1
}

run_suite() {
  local name
  for name in "${suites[@]}"; do
    echo "== $name"
    run_tests "$OUT/$name.log" 240 "$OUT/${name}_test" || fail "$name"
  done
}

# The suites side by side: under these tools the card waits for the processor.
run_sanitizer() {
  local sanitizer tool name
  sanitizer=$(command -v compute-sanitizer || echo "$CUDA/bin/compute-sanitizer")
  [ -x "$sanitizer" ] || { echo "NOTE: no compute-sanitizer; SKIPPED"; return; }
  local names=() pids=()
  for tool in memcheck racecheck; do
    for name in elementwise rotate_and_store sampling attention; do
      run_tests "$OUT/$tool-$name.log" 300 "$sanitizer" --tool "$tool" --error-exitcode 9 \
        "$OUT/${name}_test" >"$OUT/$tool-$name.end" &
      pids+=($!)
      names+=("$tool-$name")
    done
  done
  local i
  for i in "${!pids[@]}"; do
    local status=0
    wait "${pids[$i]}" || status=$?
    echo "== ${names[$i]}"
    tail -8 "$OUT/${names[$i]}.end"
    [ $status = 0 ] || fail "${names[$i]}"
  done
}

build_models() {
  core_begin standalone && core_compile && worker_compile &&
    worker_program gpu_models tests/gpu/models.cc \
      tests/worker/engine/{generation_script,in_process_group,layout_answers}.cc
}

run_models() {
  local models=(tests/golden/tiny_gguf/*.gguf) tokens=32
  local smollm2=${TESSERA_TEST_MODEL:-$HOME/.cache/tessera/models/SmolLM2-135M-Instruct.Q4_1.gguf}
  if [ -n "${TESSERA_GPU_SIMULATED:-}" ]; then
    tokens=6
  elif [ -r "$smollm2" ]; then
    models+=("$smollm2")
  else
    echo "NOTE: no model at $smollm2 (TESSERA_TEST_MODEL): SmolLM2 is SKIPPED"
  fi
  timeout 420 "$OUT/gpu_models" --tokens "$tokens" "${models[@]}" || fail "models"
  timeout 120 "$OUT/gpu_models" --tokens "$tokens" --fp8 tests/golden/tiny_gguf/llama.gguf ||
    fail "models as fp8"
}

run_mpirun() {
  if ! command -v cmake >/dev/null || ! command -v mpirun >/dev/null ||
     ! command -v protoc >/dev/null; then
    echo "NOTE: no CMake, Open MPI or Protobuf here: the ranks as processes are SKIPPED"
    return
  fi
  deploy/build.sh release tessera_layout_probe tessera_layout_probe_gpu || { fail "build"; return; }
  [ -z "${TESSERA_GPU_BUILD_ONLY:-}" ] || return
  tests/gpu/mpirun.sh build/release/bin "$(command -v mpirun)" || fail "mpirun"
}

wanted() { [[ " ${parts[*]} " == *" $1 "* ]]; }

if wanted suite || wanted sanitizer; then
  build_suite || { echo "FAILED: the build"; exit 1; }
fi
if wanted models; then
  build_models || { echo "FAILED: the build of the models' program"; exit 1; }
fi
for part in "${parts[@]}"; do
  case "$part" in
    suite) [ -n "${TESSERA_GPU_BUILD_ONLY:-}" ] || run_suite ;;
    sanitizer) [ -n "${TESSERA_GPU_BUILD_ONLY:-}" ] || run_sanitizer ;;
    models) [ -n "${TESSERA_GPU_BUILD_ONLY:-}" ] || run_models ;;
    mpirun) run_mpirun ;;
    *)
      echo "error: unknown part '$part'; expected suite, sanitizer, models or mpirun" >&2
      exit 2
      ;;
  esac
done
how="all passed"
[ -z "${TESSERA_GPU_BUILD_ONLY:-}" ] || how="built, not run"
[ $failed = 0 ] && echo "gpu.sh: ${parts[*]}: $how"
exit $failed
