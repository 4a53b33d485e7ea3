#!/usr/bin/env python3
"""From `tessera serve` to the first token, and where the time goes.

  benchmarks/startup/startup.py                        # the default model, 2 ranks, warm page cache
  benchmarks/startup/startup.py --model M -tp 4 --runs 9

Starts the server --runs times (and once before, to warm the page cache), asks for one token over
HTTP as soon as it says that it serves, and prints when each point was reached: the median over the
runs, in milliseconds since the start, and what the step to it took.
"""
import argparse
import http.client
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
POINT = re.compile(r"startup (\d+\.\d+) (.*)")


def default_model():
    return subprocess.run([ROOT / "deploy" / "fetch-model.sh"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


def first_token(address):
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    body = {"prompt": "The capital of France is", "max_tokens": 1, "temperature": 0}
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Content-Type": "application/json"})
    answer = connection.getresponse().read()
    assert json.loads(answer)["choices"][0]["text"], answer


def one_run(args, model, folder):
    """{point: seconds since the start}"""
    ready = folder / "ready"
    ready.unlink(missing_ok=True)
    log_path = folder / "log"
    with open(log_path, "w") as log:
        began = time.clock_gettime(time.CLOCK_MONOTONIC)
        server = subprocess.Popen(
            [args.bin_dir / "tessera", "serve", "--verbose", "--model", model, "-tp", str(args.tp),
             "-pp", str(args.pp), "--grpc-port", "0", "--port", "0", "--cluster-port", "0",
             "--ready-file", ready, *args.flags],
            stdout=log, stderr=log, env={**os.environ, "TESSERA_STARTUP_TIMES": "1"})
    try:
        while not (ready.exists() and ready.read_text().count("\n") >= 1):
            if server.poll() is not None:
                raise SystemExit(log_path.read_text())
            time.sleep(0.001)
        points = {"script: sees that it serves": time.clock_gettime(time.CLOCK_MONOTONIC)}
        first_token(ready.read_text().split()[1])
        points["script: has the first token"] = time.clock_gettime(time.CLOCK_MONOTONIC)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)
    for line in log_path.read_text(errors="replace").splitlines():
        if match := POINT.search(line):
            points.setdefault(match.group(2), float(match.group(1)))
    return {point: at - began for point, at in points.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="default: the quickstart's")
    parser.add_argument("-tp", type=int, default=2)
    parser.add_argument("-pp", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bin-dir", type=pathlib.Path, default=ROOT / "build" / "release" / "bin")
    parser.add_argument("flags", nargs="*", help="further flags of tessera serve, after --")
    args = parser.parse_args()
    model = args.model or default_model()
    with tempfile.TemporaryDirectory(prefix="tessera-startup.") as folder:
        folder = pathlib.Path(folder)
        one_run(args, model, folder)
        runs = [one_run(args, model, folder) for _ in range(args.runs)]
    medians = {point: statistics.median(run[point] for run in runs if point in run)
               for point in runs[0]}
    before = 0.0
    print(f"{'ms':>8} {'step ms':>8}")
    for point, at in sorted(medians.items(), key=lambda item: item[1]):
        print(f"{at * 1e3:8.0f} {(at - before) * 1e3:8.0f}  {point}")
        before = at


if __name__ == "__main__":
    main()
