#!/usr/bin/env python3
"""Tessera beside llama.cpp on this machine: same file, same threads, in turns A B A B.

  benchmarks/compare.py                                  # the default model
  benchmarks/compare.py --model M.gguf --model N.gguf    # others
  benchmarks/compare.py --models smollm2-q4_0,1.1b-q8_0  # made once (peers/make_models.py --list)
  benchmarks/compare.py --models all --threads 1

Prints a Markdown table and writes it with an SVG of the ratios to --out. Tests: pp512 (a prompt of
512 tokens), tg128 (128 tokens of one stream), tg64x16 (64 tokens of 16 streams together). Ours is
measured by tessera_bench_engine; llama.cpp by llama-bench and llama-batched-bench if they are on the
PATH (or in --llama-dir), otherwise through llama-cpp-python, which is installed into
~/.cache/tessera/compare-venv.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from peers import programs, report  # noqa: E402


def cache_folder():
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    return pathlib.Path(os.environ.get("TESSERA_CACHE", base / "tessera"))


def make_models(names, environment):
    maker = ROOT / "benchmarks" / "peers" / "make_models.py"
    environment.require(maker.with_name("requirements.txt"))
    if names == "all":
        names = ",".join(programs.run([environment.python, maker, "--list"]).split())
    made = programs.run([environment.python, maker, *names.split(",")]).split()
    return list(zip(names.split(","), made))


def models_of(args, environment):
    models = [(pathlib.Path(path).stem, path) for path in args.model]
    if args.models or not models:
        subprocess.run([ROOT / "deploy" / "fetch-model.sh"], check=True, stdout=subprocess.DEVNULL)
    if args.models:
        models += make_models(args.models, environment)
    elif not models:
        models.append(("smollm2-q4_1", cache_folder() / "models" /
                       "SmolLM2-135M-Instruct.Q4_1.gguf"))
    return models


def compare(name, path, ours, peer, args):
    measured = {ours: [], peer: []}
    shares = []
    for turn in range(args.turns):
        for program in (ours, peer):
            speeds = program.measure(path, args.threads, args.repetitions)
            measured[program].append(speeds)
            print(f"{name} turn {turn + 1}: {program.name:10} " +
                  "  ".join(f"{test} {speeds[test]:.0f}" for test in speeds), file=sys.stderr)
        shares.append(ours.share_of_read())
    rows = []
    for test in programs.TESTS:
        medians = [statistics.median(turn[test] for turn in measured[program])
                   for program in (ours, peer) if all(test in turn for turn in measured[program])]
        if len(medians) == 2:
            rows.append(report.Row(name, test, *medians,
                                   statistics.median(shares) if test == "tg128" else None))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", default=[], help="a GGUF file; may be repeated")
    parser.add_argument("--models", help="names of peers/make_models.py, or all")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--turns", type=int, default=3, help="of each program, A B A B ...")
    parser.add_argument("--repetitions", type=int, default=3, help="within a turn; its median counts")
    parser.add_argument("--llama-dir", help="where llama-bench is, if not on the PATH")
    parser.add_argument("--bin-dir", default=ROOT / "build" / "release" / "bin")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build",
                        help="folder for compare.md and compare.svg")
    args = parser.parse_args()

    environment = programs.Environment(cache_folder())
    ours = programs.Ours(args.bin_dir)
    peer = programs.find_llama(args.llama_dir, environment)
    rows = []
    for name, path in models_of(args, environment):
        rows += compare(name, path, ours, peer, args)
    text = report.markdown(rows, peer.name, args.threads, args.turns)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "compare.md").write_text(text)
    (args.out / "compare.svg").write_text(report.svg(rows, peer.name, args.threads, args.turns))
    print(text, end="")


if __name__ == "__main__":
    main()
