#!/bin/bash
# A group on simulated GPUs gives the tokens and logits of one rank on the CPU, as near as bfloat16
# allows, in every layout, with activations by NCCL and by MPI, through real mpirun. Decode steps run
# as recorded graphs.
#   gpu_layouts_test.sh PROBE SIMULATED_PROBE MPIRUN MODELS_FOLDER MODEL...
set -u
probe=$1 simulated=$2 mpirun=$3 models=$4
shift 4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tokens=6 tolerance=0.1

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
  for case in "1 1 auto" "2 1 nccl" "1 2 nccl" "2 2 nccl" "4 1 nccl" "2 2 mpi"; do
    set -- $case
    run "$simulated" $(($1 * $2)) gpu --model "$models/$model" --device cuda --tp "$1" --pp "$2" \
      --comm "$3"
    printf '%s over %sx%s, %s: ' "$model" "$1" "$2" "$3"
    "$probe" --compare "$work/gpu" "$work/cpu" --tolerance "$tolerance" || failed=1
  done
done
# Weights as 8-bit floats: the same in every layout.
run "$simulated" 1 fp8 --model "$models/$model" --device cuda --fp8
for case in "2 1 nccl" "4 1 nccl" "2 2 mpi"; do
  set -- $case
  run "$simulated" $(($1 * $2)) gpu --model "$models/$model" --device cuda --fp8 --tp "$1" \
    --pp "$2" --comm "$3"
  printf '%s as fp8 over %sx%s, %s: ' "$model" "$1" "$2" "$3"
  "$probe" --compare "$work/gpu" "$work/fp8" --tolerance "$tolerance" || failed=1
done
# More ranks than GPUs: only through host memory, and said so.
export TESSERA_STUB_GPUS=1
run "$simulated" 2 gpu --model "$models/$model" --device cuda --tp 2 --comm auto
printf '%s, two ranks on one GPU: ' "$model"
"$probe" --compare "$work/gpu" "$work/cpu" --tolerance "$tolerance" || failed=1
if out=$("$mpirun" -n 2 --allow-run-as-root --oversubscribe "$simulated" --model "$models/$model" \
         --device cuda --tp 2 --comm nccl --out "$work/gpu" 2>&1); then
  echo "FAILED: two ranks shared a GPU over NCCL"; failed=1
elif [[ $out != *"ranks 0 and 1 share GPU 0"* ]]; then
  echo "FAILED: expected a word about the shared GPU, got: $out"; failed=1
fi
exit $failed
