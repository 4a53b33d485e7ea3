#!/usr/bin/env bash
# Everything that can be tested on this machine, from a fresh checkout. Each part runs what only it
# can find:
#
#   release      everything: all unit, golden and mpirun tests, the GPU's kernels on a simulated GPU.
#                The only part that judges numbers: what is summed is the same sum in other builds
#   integration  two real programs, stock Python clients; faults at random moments (tests/faults)
#   hosts        not by default: several hosts on one machine (tests/hosts), as root
#   debug        memory faults and undefined behaviour (ASan, UBSan): the unit tests but those whose
#                work is arithmetic over memory that others touch as well (labels arithmetic and
#                default_model in tests/CMakeLists.txt), nor those of the simulated GPU, whose stacks
#                a sanitizer does not know
#   tsan         data races: the tests with threads that share something (label threads)
#   checks       clang's word on locks, on includes and by clang-tidy, of what changed last, for a
#                few minutes (tests/clang_check.py)
#
# Prints the ten slowest tests of each part and, in the end, the seconds of every configuring,
# building and testing. TESSERA_TEST_JOBS: tests at a time (default: one for each processor;
# tests that want the machine for themselves run alone in any case).
#
# Usage: tests/run.sh [release|integration|debug|tsan|checks|hosts ...]   (default: all but hosts)
set -uo pipefail
cd "$(dirname "$0")/.."

started=$SECONDS
passed=0 failed=0 skipped=0
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(release integration debug tsan checks)
for part in "${parts[@]}"; do
  case "$part" in
    release|integration|debug|tsan|checks|hosts) ;;
    *) echo "error: unknown part '$part'; expected release, integration, debug, tsan, checks or hosts" >&2
       exit 2 ;;
  esac
done
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

test_jobs=${TESSERA_TEST_JOBS:-$(nproc)}

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

# The table of the end: note PART WHAT SECONDS; timed PART WHAT COMMAND...
note() { printf '%-12s %-10s %6d s\n' "$1" "$2" "$3" >>"$results/times"; }
timed() {
  local part=$1 what=$2 began=$SECONDS status=0
  shift 2
  "$@" || status=$?
  note "$part" "$what" $((SECONDS - began))
  return $status
}

build() {  # build PART PRESET [targets]
  local part=$1 status=0 what seconds
  shift
  TESSERA_BUILD_TIMES=$results/build_times deploy/build.sh "$@" || status=$?
  while read -r what seconds; do note "$part" "$what" "$seconds"; done <"$results/build_times"
  rm -f "$results/build_times"
  return $status
}

slowest() {  # of a JUnit file
  python3 - "$1" <<'PY'
import sys, xml.etree.ElementTree as tree
cases = sorted(tree.parse(sys.argv[1]).iter("testcase"), key=lambda c: -float(c.get("time") or 0))
print("slowest:")
for case in cases[:10]:
    print(f"  {float(case.get('time') or 0):7.1f} s  {case.get('name')}")
PY
}

run_ctest() {  # run_ctest PRESET TARGET [ctest arguments]
  local preset=$1 target=$2
  shift 2
  stage "build $preset"
  build "$preset" "$preset" "$target" || { fail "the $preset build"; return; }
  stage "test $preset"
  # Tests of the label gpu want a real one; tests/gpu.sh runs them where there is no more than that.
  [ -e /dev/nvidiactl ] || set -- -LE gpu "$@"
  timed "$preset" test \
    ctest --preset "$preset" -j "$test_jobs" --output-junit "$results/$preset.xml" "$@"
  slowest "$results/$preset.xml"
  count_junit "$results/$preset.xml" || fail "the $preset tests left no result"
}

run_pytest() {  # run_pytest PART FOLDER...
  local part=$1
  shift
  stage "$part"
  build "$part" release || { fail "the release build"; return; }
  local venv=${TESSERA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tessera}/test-venv
  local wanted
  wanted=$(sha256sum tests/requirements.txt | cut -d' ' -f1)
  if [ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$venv"
    if ! { python3 -m venv "$venv" &&
           "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt &&
           echo "$wanted" >"$venv/installed"; }; then
      rm -rf "$venv"
      echo "NOTE: the $part tests are SKIPPED: the Python packages of tests/requirements.txt"
      echo "      could not be installed (no package index?)"
      skipped=$((skipped + 1))
      return
    fi
  fi
  timed "$part" test "$venv/bin/python" -m pytest -q -rs --durations=10 --durations-min=1 \
    --junit-xml="$results/$part.xml" -p no:cacheprovider "$@"
  count_junit "$results/$part.xml" || fail "the $part tests left no result"
}

run_checks() {
  if ! command -v clang++ >/dev/null; then
    echo "NOTE: the checks by clang are SKIPPED: no clang++"
    skipped=$((skipped + 1))
    return
  fi
  stage "checks"
  build checks release tessera_proto tessera_grpc || { fail "the messages' build"; return; }
  local check
  for check in "locks" "includes --minutes 1" "tidy --newest 120"; do
    if timed checks "${check%% *}" tests/clang_check.py $check; then
      passed=$((passed + 1))
    else
      fail "tests/clang_check.py $check"
    fi
  done
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
    integration) run_pytest integration tests/integration tests/faults ;;
    hosts) run_pytest hosts tests/hosts ;;
    debug) run_ctest debug all ;;
    tsan) run_ctest tsan tessera_threads_tests -L threads ;;
    checks) run_checks ;;
  esac
done

stage "done"
cat "$results/times" 2>/dev/null
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
