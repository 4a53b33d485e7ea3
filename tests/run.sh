#!/usr/bin/env bash
# Everything that can be tested on this machine, from a fresh checkout:
#
#   release   all unit, golden and mpirun tests, then the integration tests (two real programs,
#             a stock Python gRPC client)
#   debug     the same unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
#   tsan      the tests labelled "threads" under ThreadSanitizer
#
# Usage: tests/run.sh [release|integration|debug|tsan ...]   (default: all four)
set -uo pipefail
cd "$(dirname "$0")/.."

started=$SECONDS
passed=0 failed=0 skipped=0
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(release integration debug tsan)
for part in "${parts[@]}"; do
  case "$part" in
    release|integration|debug|tsan) ;;
    *) echo "error: unknown part '$part'; expected release, integration, debug or tsan" >&2; exit 2 ;;
  esac
done
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

stage() { printf '\n== %s  [%d min %02d s]\n' "$*" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)); }
fail() { echo "FAILED: $*"; failed=$((failed + 1)); }
# Adds the counts of a JUnit file: count_junit FILE; false when it cannot be read.
count_junit() {
  local counts
  counts=$(python3 - "$1" <<'PY'
import sys, xml.etree.ElementTree as tree
cases = list(tree.parse(sys.argv[1]).iter("testcase"))
bad = sum(any(c.find(t) is not None for t in ("failure", "error")) for c in cases)
skip = sum(c.find("skipped") is not None for c in cases)
print(len(cases) - bad - skip, bad, skip)
PY
) || return 1
  set -- $counts
  passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

run_ctest() {  # run_ctest PRESET TARGET [ctest arguments]
  local preset=$1 target=$2
  shift 2
  stage "build $preset"
  deploy/build.sh "$preset" "$target" || { fail "the $preset build"; return; }
  stage "test $preset"
  # Tests of the label gpu want a real one; tests/gpu.sh runs them where there is no more than that.
  [ -e /dev/nvidiactl ] || set -- -LE gpu "$@"
  ctest --preset "$preset" --output-junit "$results/$preset.xml" "$@"
  count_junit "$results/$preset.xml" || fail "the $preset tests left no result"
}

run_integration() {
  stage "integration"
  deploy/build.sh release || { fail "the release build"; return; }
  local venv=${TESSERA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tessera}/test-venv
  local wanted
  wanted=$(sha256sum tests/requirements.txt | cut -d' ' -f1)
  if [ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$venv"
    if ! { python3 -m venv "$venv" &&
           "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt &&
           echo "$wanted" >"$venv/installed"; }; then
      rm -rf "$venv"
      echo "NOTE: the integration tests are SKIPPED: the Python packages of tests/requirements.txt"
      echo "      could not be installed (no package index?)"
      skipped=$((skipped + 1))
      return
    fi
  fi
  "$venv/bin/python" -m pytest -q -rs --junit-xml="$results/integration.xml" \
    -p no:cacheprovider tests/integration
  count_junit "$results/integration.xml" || fail "the integration tests left no result"
}

deploy/install-packages.sh || exit 1
if ! model=$(deploy/fetch-model.sh); then
  echo "NOTE: without the default model its tests are SKIPPED"
else
  export TESSERA_TEST_MODEL=$model
fi
for part in "${parts[@]}"; do
  case "$part" in
    release) run_ctest release all ;;
    integration) run_integration ;;
    debug) run_ctest debug all ;;
    tsan) run_ctest tsan tessera_threads_tests -L threads ;;
  esac
done

stage "done"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
