#!/usr/bin/env python3
"""What clang says of the code that GCC builds: lock annotations, and clang-tidy's findings.

  tests/clang_check.py locks                     files with ABSL_GUARDED_BY and those that use them
  tests/clang_check.py tidy [--minutes N] [path ...]  .clang-tidy's checks; the newest files first

Wants a configured build folder (--build, default build/release) whose messages are generated:
deploy/build.sh release tessera_proto tessera_grpc. Every file is read with the flags it is built
with, but without precompiled headers: one that includes less than it uses fails here. Exits with 1
where something is found. --minutes ends a run early and says what was not read.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOT_CLANG = {"kernels/cpu/instruction_sets.cc"}  # clang 14 does not know GCC's name of F16C
FOLDERS = ("proto/", "kernels/", "worker/", "coordinator/", "benchmarks/")


def clang_commands(build):
    """{path below the root: arguments for clang}, for the programs' own C++ files."""
    commands = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = os.path.relpath(entry["file"], ROOT)
        if not path.startswith(FOLDERS) or not path.endswith(".cc") or path in commands \
                or path in NOT_CLANG:
            continue
        arguments, words = ["clang++"], iter(shlex.split(entry["command"])[1:])
        for word in words:
            if word in ("-o", "-include"):
                skipped = next(words)
                if word == "-include" and "cmake_pch" not in skipped:
                    arguments += [word, skipped]
            elif word not in ("-c", "-Werror", "-fpch-preprocess", "-Winvalid-pch",
                              "-Wno-maybe-uninitialized", entry["file"]):
                arguments.append(word)
        commands[path] = arguments + ["-Wno-unknown-warning-option", "-fsyntax-only"]
    return commands


def files_with_locks(paths):
    """Files that annotate, and those that include a header that does."""
    def text(path):
        return (ROOT / path).read_text()

    headers = [str(p.relative_to(ROOT)) for folder in FOLDERS
               for p in (ROOT / folder).rglob("*.h") if "ABSL_GUARDED_BY" in p.read_text()]
    def uses(path):
        content = text(path)
        return "ABSL_GUARDED_BY" in content or any(f'"{h}"' in content for h in headers)
    return [p for p in paths if uses(p)]


def newest_first(paths):
    log = subprocess.run(["git", "log", "--name-only", "--format=", "-n", "300"], cwd=ROOT,
                         capture_output=True, text=True, check=False).stdout.splitlines()
    age = {}
    for path in log:
        age.setdefault(path, len(age))
    return sorted(paths, key=lambda p: (age.get(p, len(age)), p))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("check", choices=("locks", "tidy"))
    parser.add_argument("paths", nargs="*", help="files or folders; default: all")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--minutes", type=float, default=0, help="end then (0: read everything)")
    options = parser.parse_args()

    commands = clang_commands(options.build)
    paths = [p for p in commands
             if not options.paths or any(re.match(re.escape(o.rstrip("/")) + "(/|$)", p)
                                         for o in options.paths)]
    paths = files_with_locks(paths) if options.check == "locks" else newest_first(paths)
    if not paths:
        sys.exit("error: nothing to read")
    end = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")

    with tempfile.TemporaryDirectory() as folder:
        database = [{"directory": str(options.build), "file": str(ROOT / p),
                     "arguments": commands[p] + [str(ROOT / p)]} for p in paths]
        (pathlib.Path(folder) / "compile_commands.json").write_text(json.dumps(database))

        def read(path):
            if time.monotonic() > end:
                return None
            if options.check == "locks":
                command = commands[path] + ["-Wno-everything", "-Wthread-safety",
                                            "-Werror=thread-safety", str(ROOT / path)]
            else:
                command = ["clang-tidy", "-p", folder, "--quiet", str(ROOT / path)]
            done = subprocess.run(command, cwd=options.build, capture_output=True, text=True,
                                  check=False)
            return done.returncode, done.stdout + (done.stderr if done.returncode else "")

        failed, read_files = [], 0
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for path, result in zip(paths, pool.map(read, paths)):
                if result is None:
                    continue
                read_files += 1
                if result[0]:
                    failed.append(path)
                    print(f"== {path}\n{result[1]}", flush=True)
    print(f"{options.check}: {read_files} of {len(paths)} files read, {len(failed)} with findings"
          + (": " + " ".join(failed) if failed else ""))
    sys.exit(1 if failed else 0)


main()
