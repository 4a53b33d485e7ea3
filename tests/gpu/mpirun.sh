#!/usr/bin/env bash
# The tiny models and SmolLM2 on a real GPU, ranks sharing it through host memory, against one rank on
# the CPU: the tokens, and the logits within what bfloat16 allows.
#   mpirun.sh FOLDER_OF_PROGRAMS MPIRUN
set -u
programs=$1 mpirun=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run() {  # program ranks out flags...
  local program=$1 ranks=$2 out=$3
  shift 3
  timeout 300 "$mpirun" -n "$ranks" --allow-run-as-root --oversubscribe --bind-to none \
    "$programs/$program" --out "$work/$out" --tokens 32 "$@"
}

failed=0
models=(tests/golden/tiny_models/*/)
[ -r "${TESSERA_TEST_MODEL:-}" ] && models+=("$TESSERA_TEST_MODEL")
for model in "${models[@]}"; do
  run tessera_layout_probe 1 cpu --model "$model" --threads "$(nproc)" || { failed=1; continue; }
  for layout in "1 1" "2 1" "1 2" "4 1" "2 2"; do
    set -- $layout
    printf '%s over %sx%s: ' "$model" "$1" "$2"
    run tessera_layout_probe_gpu $(($1 * $2)) gpu --model "$model" --device cuda --comm mpi \
      --tp "$1" --pp "$2" &&
      "$programs/tessera_layout_probe" --compare "$work/gpu" "$work/cpu" --tolerance 0.1 || failed=1
  done
done
exit $failed
