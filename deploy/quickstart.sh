#!/usr/bin/env bash
# From a fresh Debian 12 machine to an answer: installs what is missing, builds, fetches the default
# model, starts a coordinator with a TP × PP group of workers, streams one answer, stops everything.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

usage() {
  cat <<'TEXT'
Usage: deploy/quickstart.sh [options]
  --prompt TEXT                     what to ask (default: a short question)
  --model PATH                      a .gguf file or a Hugging Face folder (default: SmolLM2-135M-Instruct)
  -tp, --tensor-parallel-size N     ranks that share each layer (default 2)
  -pp, --pipeline-parallel-size N   stages the layers are cut into (default 2)
  --max-tokens N                    length of the answer at most (default 64)
  --grpc-port N                     where clients call (default: chosen by the system; 50051 with --keep)
  --port N                          HTTP (default: chosen by the system; 8000 with --keep)
  --keep                            leave the cluster running and return
  -h, --help                        this text
TEXT
}

prompt="What is the capital of France, and what is it known for?"
model= tp=2 pp=2 max_tokens=64 grpc_port= http_port= keep=false
need_value() { [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; }; }
while [ $# -gt 0 ]; do
  case "$1" in
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}"; continue ;;
    --prompt) need_value "$@"; prompt=$2; shift 2 ;;
    --model) need_value "$@"; model=$2; shift 2 ;;
    -tp|--tensor-parallel-size) need_value "$@"; tp=$2; shift 2 ;;
    -pp|--pipeline-parallel-size) need_value "$@"; pp=$2; shift 2 ;;
    --max-tokens) need_value "$@"; max_tokens=$2; shift 2 ;;
    --grpc-port) need_value "$@"; grpc_port=$2; shift 2 ;;
    --port) need_value "$@"; http_port=$2; shift 2 ;;
    --keep) keep=true; shift ;;
    -h|--help) usage; exit 0 ;;
    *) echo "error: unknown option $1" >&2; usage >&2; exit 2 ;;
  esac
done
# A cluster that stays is found at the usual ports.
if $keep; then usual=(50051 8000); else usual=(0 0); fi
grpc_port=${grpc_port:-${usual[0]}} http_port=${http_port:-${usual[1]}}

say() { printf '\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] || say() { printf '%s\n' "$*"; }

"$root/deploy/install-packages.sh"

say "Building (build/release)"
if ! (cd "$root" && deploy/build.sh release tessera tessera-worker); then
  echo "error: the build failed" >&2
  exit 1
fi
[ -n "$model" ] || model=$("$root/deploy/fetch-model.sh")

bin=$root/build/release/bin
run=$(mktemp -d "${TMPDIR:-/tmp}/tessera-quickstart.XXXXXX")
server=
cleanup() {
  if [ -n "$server" ] && ! { $keep && [ -f "$run/answered" ]; }; then
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  $keep && [ -f "$run/answered" ] || rm -rf "$run"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

serve=("$bin/tessera" serve --model "$model"
  --tensor-parallel-size "$tp" --pipeline-parallel-size "$pp"
  --grpc-port "$grpc_port" --port "$http_port" --cluster-port 0 --ready-file "$run/ready")
say "Starting a group of $((tp * pp)) workers (TP $tp x PP $pp)"
tail_log=
if $keep; then
  # The server outlives this script: its output goes to a file that we show until it is ready.
  : >"$run/server.log"  # there when tail looks for it
  setsid "${serve[@]}" >>"$run/server.log" 2>&1 </dev/null &
  server=$!
  tail -n +1 -f "$run/server.log" --pid="$server" &
  tail_log=$!
else
  "${serve[@]}" &
  server=$!
fi
until [ -s "$run/ready" ]; do
  if ! kill -0 "$server" 2>/dev/null; then
    wait "$server" && status=0 || status=$?
    [ -z "$tail_log" ] || wait "$tail_log" 2>/dev/null || true
    exit $((status ? status : 1))
  fi
  sleep 0.1
done
[ -z "$tail_log" ] || { kill "$tail_log" 2>/dev/null; wait "$tail_log" 2>/dev/null || true; }
address=$(head -n 1 "$run/ready")  # gRPC; HTTP's is the second line

echo
say "> $prompt"
if "$bin/tessera" status --server "$address" --has-chat-format >/dev/null 2>&1; then
  ask=("$bin/tessera" chat --server "$address" --message "$prompt")
else
  ask=("$bin/tessera" generate --server "$address" --prompt "$prompt")
fi
"${ask[@]}" --max-tokens "$max_tokens" --temperature 0

if $keep; then
  touch "$run/answered"
  echo
  echo "The cluster stays up at $address (log: $run/server.log)."
  echo "  $bin/tessera chat --server $address"
  echo "  curl http://$(sed -n 2p "$run/ready")/v1/models"
  echo "  kill $server    # stops all of it"
fi
