#!/bin/bash
# Every layout gives the logits and tokens of one rank, through real mpirun.
#   layouts_mpirun_test.sh PROBE MPIRUN MODELS_FOLDER MODEL...
set -u
probe=$1 mpirun=$2 models=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run() {  # model tp pp out
  timeout 120 "$mpirun" -n $(($2 * $3)) --allow-run-as-root --oversubscribe --bind-to none \
    --mca mpi_yield_when_idle 1 \
    "$probe" --model "$models/$1" --tp "$2" --pp "$3" --out "$work/$4" ||
    { echo "FAILED: $1 over $2x$3 did not run"; exit 1; }
}

failed=0
for model in "$@"; do
  run "$model" 1 1 one
  for layout in "2 1" "3 1" "4 1" "1 2" "1 3" "2 2" "3 2"; do
    run "$model" $layout split
    printf '%s over %s: ' "$model" "${layout/ /x}"
    "$probe" --compare "$work/split" "$work/one" || failed=1
  done
done
exit $failed
