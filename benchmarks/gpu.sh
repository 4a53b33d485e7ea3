#!/usr/bin/env bash
# What a GPU does with Llama-3.2-1B and Llama-3.1-8B of dummy weights, beside the card's own measured
# copy bandwidth and bf16 matrix rate (of which fp8 weights may reach more than 1): decode, prefill,
# attention, idle time, load rate, and one tensor-parallel rank's slice alone. Builds what it needs
# from the tree with CUDA and g++ alone (tests/gpu/build_core.sh); no network.
#
# Usage: benchmarks/gpu.sh [--quick] [--json FILE]
# TESSERA_GPU_BUILD_ONLY=1 stops before the program runs. It is stopped after 10 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/gpu/build_core.sh

core_begin
core_compile
core_program gpu_bench benchmarks/gpu/main.cc benchmarks/gpu/dummy_llama.cc \
  benchmarks/gpu/card_limits.cc
[ -z "${TESSERA_GPU_BUILD_ONLY:-}" ] || exit 0
timeout 600 "$OUT/gpu_bench" "$@"
