#!/usr/bin/env bash
# Configures and builds a preset: deploy/build.sh [release|debug|tsan] [target ...]
# Uses Ninja when present and as many jobs as there are processors (TESSERA_BUILD_JOBS overrides).
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
shift || true
jobs=${TESSERA_BUILD_JOBS:-$(nproc)}
if [ -z "${CMAKE_GENERATOR:-}" ] && command -v ninja >/dev/null; then
  export CMAKE_GENERATOR=Ninja
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! cmake --preset "$preset" >"$log" 2>&1; then
  cat "$log" >&2
  echo "error: configuring the $preset preset failed" >&2
  exit 1
fi
targets=()
[ $# -gt 0 ] && targets=(--target "$@")
cmake --build --preset "$preset" -j "$jobs" "${targets[@]}"
