"""The programs that compare.py takes turns with: each gives tokens/s per test for a model file.

  ours = Ours(bin_dir)
  peer = find_llama(llama_dir, environment)
  ours.measure(model, threads=2, repetitions=3)   # {"pp512": 444.1, "tg128": 144.7, "tg64x16": ...}
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

TESTS = ["pp512", "tg128", "tg64x16"]
# Seen with AMX, which a process must ask for.
ILLEGAL = ("it died of an instruction that it may not use here; build it without, as with "
           "CMAKE_ARGS='-DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX512_VNNI=ON', after removing "
           "compare-venv from the cache, and say so beside the figures")
HERE = pathlib.Path(__file__).resolve().parent


def run(command, **options):
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        hint = ILLEGAL if -done.returncode in (signal.SIGILL, signal.SIGSEGV) else ""
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr[-2000:]}{hint}")
    return done.stdout


class Ours:
    name = "Tessera"

    def __init__(self, bin_dir):
        self.program = pathlib.Path(bin_dir) / "tessera_bench_engine"
        self.details = {}  # of the latest measurement
        if not self.program.exists():
            sys.exit(f"{self.program} is missing: deploy/build.sh release tessera_bench_engine")

    def measure(self, model, threads, repetitions):
        self.details = json.loads(run([self.program, "--model", model, "--threads", threads,
                                       "--repetitions", repetitions, "--tests", ",".join(TESTS)]))
        return {test["name"]: test["tokens_per_second"] for test in self.details["tests"]}

    def share_of_read(self):
        """Of the read speed that the same run measured, while one stream decodes."""
        return next(test["share_of_read"] for test in self.details["tests"]
                    if test["name"] == "tg128")


class LlamaBench:
    """llama-bench and llama-batched-bench."""
    name = "llama.cpp"

    def __init__(self, bench, batched):
        self.bench, self.batched = bench, batched

    def measure(self, model, threads, repetitions):
        speeds = {}
        lines = run([self.bench, "-m", model, "-t", threads, "-p", 512, "-n", 128,
                     "-r", repetitions, "-ngl", 0, "-o", "jsonl"]).splitlines()
        for line in map(json.loads, lines):
            name = f"pp{line['n_prompt']}" if line["n_prompt"] else f"tg{line['n_gen']}"
            speeds[name] = sorted(line["samples_ts"])[len(line["samples_ts"]) // 2]
        if self.batched:
            out = run([self.batched, "-m", model, "-t", threads, "-tb", threads, "-c", 4096, "-b", 512,
                       "-ub", 512, "-ngl", 0, "-npp", 16, "-ntg", 64, "-npl", 16,
                       "--output-format", "jsonl"])
            line = next(line for line in out.splitlines() if line.startswith("{"))
            speeds["tg64x16"] = json.loads(line)["speed_tg"]
        return speeds


class LlamaPython:
    """llama-cpp-python in an environment of its own."""
    name = "llama.cpp"

    def __init__(self, environment):
        self.python = environment.python

    def measure(self, model, threads, repetitions):
        return json.loads(run([self.python, HERE / "llama_python.py", model, threads, repetitions]))


class Environment:
    """A Python environment in the cache with what the measuring needs, installed when missing."""

    def __init__(self, cache):
        self.folder = cache / "compare-venv"
        self.python = self.folder / "bin" / "python"

    def require(self, requirements, note=""):
        done = self.folder / f"{requirements.stem}.installed"
        if done.exists() and done.read_text() == requirements.read_text():
            return self
        if not self.python.exists():
            run([sys.executable, "-m", "venv", self.folder])
        print(f"installing {requirements.name} into {self.folder}{note}", file=sys.stderr)
        run([self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             "-r", requirements])
        done.write_text(requirements.read_text())
        return self


def find_llama(llama_dir, environment):
    path = f"{llama_dir}:{os.environ['PATH']}" if llama_dir else os.environ["PATH"]
    bench = shutil.which("llama-bench", path=path)
    if bench:
        return LlamaBench(bench, shutil.which("llama-batched-bench", path=path))
    return LlamaPython(environment.require(HERE / "requirements-llama.txt",
                                           ": builds llama.cpp, which takes minutes"))
