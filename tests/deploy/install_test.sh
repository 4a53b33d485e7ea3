#!/usr/bin/env bash
# What cmake --install leaves works where it is put, without the build folder's help.
# usage: install_test.sh CMAKE BUILD_FOLDER SOURCE_FOLDER PROTOC
set -euo pipefail
cmake=$1 build=$2 source=$3 protoc=$4
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

"$cmake" --install "$build" --prefix "$prefix" >"$prefix/log" || { cat "$prefix/log"; exit 1; }

cd "$prefix"
env -i PATH=/usr/bin:/bin HOME="$prefix" bin/tessera --help >help || fail "tessera --help"
grep -q serve help || fail "tessera --help does not name serve"
env -i PATH=/usr/bin:/bin HOME="$prefix" bin/tessera-worker --help >help ||
  fail "tessera-worker --help"
grep -q -- --model help || fail "tessera-worker --help does not name --model"
# The installed tessera asks the worker beside itself.
env -i PATH=/usr/bin:/bin HOME="$prefix" bin/tessera plan \
  --model "$source/tests/golden/tiny_models/llama" --tensor-parallel-size 2 >plan ||
  fail "tessera plan, which describes the model by the worker beside it"
grep -q 'tensor parallel 2' plan || { cat plan; fail 'tessera plan shows no layout'; }
bash -n bin/tessera-fetch-model || fail "tessera-fetch-model is no script"
grep -q "Copyright 2026 The Tessera authors" share/doc/tessera/LICENSE || fail "no LICENSE"
[ -s share/doc/tessera/README.md ] || fail "no README.md"

# Clients' code comes from the protos as they are installed.
mkdir generated
"$protoc" --proto_path=share/tessera/proto --python_out=generated \
  $(cd share/tessera/proto && find . -name '*.proto' -printf '%P\n')
[ -s generated/tessera/v1/inference_pb2.py ] || fail "protoc made nothing of inference.proto"
[ -z "$(find share/tessera/proto -type f ! -name '*.proto')" ] || fail "more than protos installed"
