#!/usr/bin/env bash
# Configures and builds a preset: deploy/build.sh [release|debug|tsan] [target ...]
# Uses Ninja when present and as many jobs as there are processors (TESSERA_BUILD_JOBS overrides).
# Where TESSERA_BUILD_TIMES names a file, "configure SECONDS" and "build SECONDS" are added to it.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
shift || true
jobs=${TESSERA_BUILD_JOBS:-$(nproc)}
if [ -z "${CMAKE_GENERATOR:-}" ] && command -v ninja >/dev/null; then
  export CMAKE_GENERATOR=Ninja
fi
took() { [ -z "${TESSERA_BUILD_TIMES:-}" ] || echo "$1 $((SECONDS - began))" >>"$TESSERA_BUILD_TIMES"; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
began=$SECONDS
if ! cmake --preset "$preset" >"$log" 2>&1; then
  cat "$log" >&2
  echo "error: configuring the $preset preset failed" >&2
  exit 1
fi
took configure
targets=()
began=$SECONDS
[ $# -gt 0 ] && targets=(--target "$@")
status=0
cmake --build --preset "$preset" -j "$jobs" "${targets[@]}" || status=$?
took build
exit "$status"
