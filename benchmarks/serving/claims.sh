#!/usr/bin/env bash
# Measures what the serving engine claims, on the default model and this machine, and says which
# claims hold. Figures are only as quiet as the machine is.
#
#   benchmarks/serving/claims.sh [BIN_DIR] [OUT_DIR]   (build/release/bin, build/serving-claims)
#
#   batching      throughput of 16 streams >= 4x that of one stream: 128 tokens in and 64 out, where
#                 prompts take most of the time, and 32 in and 256 out, where outputs do
#   prefix cache  TTFT with a shared 500-token prefix, cache on against off <= 0.3x
#   long prompt   worst inter-token gap of 8 streams, a 4,000-token prompt arriving, <= 2.5x median
#   fairness      a quiet tenant's median TTFT beside a flood of 1,000 requests <= 1.5x of alone
#   one ahead     the group's idle time between steps, in steps, with 8 streams <= 2 %
#   overload      goodput at ten times the load that 16 clients in a closed loop make >= 95 % of
#                 theirs (answers within 10 s); memory of the coordinator meanwhile <= 1.1x
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${1:-$root/build/release/bin}
out=${2:-$root/build/serving-claims}
scenarios=$root/benchmarks/serving/scenarios
mkdir -p "$out"
model=${TESSERA_TEST_MODEL:-$("$root/deploy/fetch-model.sh")}

server=
stop() {
  [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
  server=
}
trap stop EXIT

# serve [FLAGS]: a server of two ranks on ports of the system's choice; sets url and grpc.
serve() {
  stop
  rm -f "$out/ready"
  "$bin/tessera" serve --model "$model" -tp 2 --port 0 --grpc-port 0 --cluster-port 0 \
    --ready-file "$out/ready" "$@" >"$out/serve.log" 2>&1 &
  server=$!
  until [ -s "$out/ready" ]; do
    kill -0 "$server" 2>/dev/null || { cat "$out/serve.log" >&2; exit 1; }
    sleep 0.1
  done
  grpc=$(sed -n 1p "$out/ready")
  url=http://$(sed -n 2p "$out/ready")
}

# counters NAME: what the server has counted so far, in NAME.json.
counters() { "$bin/tessera" status --server "$grpc" --json >"$out/$1.json"; }
# memory FIELD: of the coordinator, in kB: VmRSS now, VmHWM at most so far.
memory() { awk -v field="$1:" '$1 == field { print $2 }' "/proc/$server/status"; }

# measure NAME FLAGS: writes NAME.json and NAME.svg.
measure() {
  local name=$1
  shift
  echo "== $name"
  "$bin/tessera_serving_benchmark" --url "$url" --title "$name" --json "$out/$name.json" \
    --svg "$out/$name.svg" "$@"
}

serve
prompts=(--prompt-tokens fixed:128 --output-tokens fixed:64 --ignore-eos --warmup 1)
measure one_stream --concurrency 1 --num-requests 4 "${prompts[@]}" --seed 1
measure sixteen_streams --concurrency 16 --num-requests 48 "${prompts[@]}" --seed 2
outputs=(--prompt-tokens fixed:32 --output-tokens fixed:256 --ignore-eos --warmup 1)
measure one_output --concurrency 1 --num-requests 3 "${outputs[@]}" --seed 10
measure sixteen_outputs --concurrency 16 --num-requests 32 "${outputs[@]}" --seed 11
measure prefix_on --concurrency 1 --num-requests 10 --warmup 1 --shared-prefix-tokens 500 \
  --prompt-tokens fixed:16 --output-tokens fixed:4 --ignore-eos --seed 3
measure long_prompt --scenario "$scenarios/long_prompt.json" --warmup 1 --seed 4
measure quiet_alone --concurrency 1 --num-requests 20 --warmup 1 --prompt-tokens fixed:64 \
  --output-tokens fixed:16 --ignore-eos --tenant quiet --seed 5
measure flood --scenario "$scenarios/flood.json" --seed 6
counters idle_before
measure eight_streams --concurrency 8 --num-requests 8 --prompt-tokens fixed:32 \
  --output-tokens fixed:200 --ignore-eos --seed 7
counters idle_after
short=(--prompt-tokens fixed:64 --output-tokens fixed:16 --ignore-eos --goodput e2el:10000
  --header X-Request-Timeout:10)
measure peak --concurrency 16 --num-requests 128 --warmup 1 "${short[@]}" --seed 8
rate=$(python3 -c 'import json, sys
print(10 * json.load(open(sys.argv[1]))["workloads"][0]["request_throughput"])' "$out/peak.json")
memory VmRSS >"$out/memory_before"
measure overload --request-rate "$rate" --num-requests 0 --duration 30 "${short[@]}" --seed 9
memory VmHWM >"$out/memory_most"
serve --no-enable-prefix-caching
measure prefix_off --concurrency 1 --num-requests 10 --warmup 1 --shared-prefix-tokens 500 \
  --prompt-tokens fixed:16 --output-tokens fixed:4 --ignore-eos --seed 3
stop

python3 - "$out" <<'PY'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])

def report(name, workload=0):
    return json.loads((out / f"{name}.json").read_text())["workloads"][workload]

def counted(field):
    before, after = (int(json.loads((out / f"idle_{when}.json").read_text())["scheduler"][field])
                     for when in ("before", "after"))
    return after - before

def memory(when):
    return int((out / f"memory_{when}").read_text())

streams = report("long_prompt")["itl_ms"]
claims = [
    ("16 streams against 1, output tokens/s, 128 tokens in and 64 out",
     report("sixteen_streams")["output_throughput"] / report("one_stream")["output_throughput"],
     ">=", 4.0),
    ("16 streams against 1, output tokens/s, 32 tokens in and 256 out",
     report("sixteen_outputs")["output_throughput"] / report("one_output")["output_throughput"],
     ">=", 4.0),
    ("prefix cache on against off, TTFT p50",
     report("prefix_on")["ttft_ms"]["p50"] / report("prefix_off")["ttft_ms"]["p50"], "<=", 0.3),
    ("worst gap of 8 streams beside a 4,000-token prompt, in medians",
     streams["max"] / streams["p50"], "<=", 2.5),
    ("quiet tenant beside a flood against alone, TTFT p50",
     report("flood", 1)["ttft_ms"]["p50"] / report("quiet_alone")["ttft_ms"]["p50"], "<=", 1.5),
    ("idle time between steps of 8 streams, of the steps' time",
     counted("stall_micros") / counted("compute_micros"), "<=", 0.02),
    ("goodput at 10 times the load, of that at the peak",
     report("overload")["request_goodput"] / report("peak")["request_goodput"], ">=", 0.95),
    ("coordinator's memory, at most in the overload against before it",
     memory("most") / memory("before"), "<=", 1.1),
]
missed = 0
print()
for name, value, relation, bound in claims:
    holds = value >= bound if relation == ">=" else value <= bound
    missed += not holds
    print(f"{'holds ' if holds else 'MISSED'}  {name}: {value:.3g} ({relation} {bound})")
sys.exit(missed > 0)
PY
