#!/usr/bin/env python3
"""One fixed job, from plain code on one thread to all that the machine has: 8 requests of 512 prompt
tokens and 128 new ones.

  benchmarks/speedup/speedup.py                 # the default model; Markdown on the standard output
  benchmarks/speedup/speedup.py --model M.gguf --repetitions 3

Every row is the same program (tessera_bench_engine) with the same file; rows with several ranks run
under mpirun. The scalar row takes minutes and runs once, without warming up.
"""
import argparse
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from peers.report import machine  # noqa: E402

JOB = "pp512+tg128x8"
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none",
          "--mca", "mpi_yield_when_idle", "1"]


def rows(cores):
    """(what, ranks, flags, runs once)"""
    half = max(1, cores // 2)
    yield "one thread, plain scalar code", 1, ["-t", 1, "--instruction-set", "scalar"], True
    yield f"{cores} threads, vector units", 1, ["-t", cores], False
    yield (f"TP 2: 2 ranks x {half} thread{'s' * (half > 1)}", 2,
           ["--tp", 2, "-t", half], False)
    yield ("TP 2 x PP 2: 4 ranks, stages in turns", 4, ["--tp", 2, "--pp", 2], False)
    if shutil.which("nvidia-smi") and subprocess.run(["nvidia-smi", "-L"],
                                                     capture_output=True).stdout.strip():
        yield "GPU", 1, ["--device", "cuda"], False


def seconds(program, model, ranks, flags, once, repetitions):
    command = (MPIRUN + ["-n", ranks] if ranks > 1 else []) + [
        program, "--model", model, "--tests", JOB, "--no-read-speed",
        *flags, *(["-r", 1, "--no-warm-up"] if once else ["-r", repetitions])]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{flags}: {done.stderr.strip()[-500:]}", file=sys.stderr)
        return None, ""
    report = json.loads(done.stdout)
    times = sorted(report["tests"][0]["seconds"])
    return times[len(times) // 2], report["device"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="default: the quickstart's")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--bin-dir", type=pathlib.Path, default=ROOT / "build" / "release" / "bin")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "speedup.md")
    args = parser.parse_args()
    model = args.model or subprocess.run([ROOT / "deploy" / "fetch-model.sh"], check=True, text=True,
                                         stdout=subprocess.PIPE).stdout.strip()
    lines = [f"{pathlib.Path(model).stem}, 8 requests of 512 + 128 tokens; {machine()}; "
             f"{datetime.date.today().isoformat()}", "",
             "| | device | seconds | factor |", "|---|---|---:|---:|"]
    first = None
    for what, ranks, flags, once in rows(os.cpu_count()):
        took, device = seconds(args.bin_dir / "tessera_bench_engine", model, ranks, flags, once,
                               args.repetitions)
        if took is None:
            lines.append(f"| {what} | | failed | |")
            continue
        first = first or took
        lines.append(f"| {what} | {device} | {took:.1f} | {first / took:.1f} |")
        print(lines[-1], file=sys.stderr)
    text = "\n".join(lines) + "\n"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
