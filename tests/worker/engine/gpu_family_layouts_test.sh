#!/bin/bash
# Families whose layers have other parts than Llama's give on simulated GPUs, in the layouts that cut
# and straddle their heads, the tokens and logits of one rank on the CPU, as near as bfloat16 allows.
# gpu_layouts_test.sh has the cases that do not depend on the family.
#   gpu_family_layouts_test.sh PROBE SIMULATED_PROBE MPIRUN MODELS_FOLDER MODEL...
set -u
probe=$1 simulated=$2 mpirun=$3 models=$4
shift 4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tokens=4 tolerance=0.1

run() {  # program ranks out flags...
  local program=$1 ranks=$2 out=$3
  shift 3
  timeout 240 "$mpirun" -n "$ranks" --allow-run-as-root --oversubscribe --bind-to none \
    --mca mpi_yield_when_idle 1 \
    "$program" --out "$work/$out" --tokens "$tokens" "$@" ||
    { echo "FAILED: $* did not run"; exit 1; }
}

failed=0
for model in "$@"; do
  run "$probe" 1 cpu --model "$models/$model"
  for case in "1 1 auto" "3 1 nccl" "2 2 nccl" "2 2 mpi"; do
    set -- $case
    run "$simulated" $(($1 * $2)) gpu --model "$models/$model" --device cuda --tp "$1" --pp "$2" \
      --comm "$3"
    printf '%s over %sx%s, %s: ' "$model" "$1" "$2" "$3"
    "$probe" --compare "$work/gpu" "$work/cpu" --tolerance "$tolerance" || failed=1
  done
done
exit $failed
