#!/usr/bin/env python3
"""What clang says of the code that GCC builds.

  tests/clang_check.py locks      lock annotations: files with ABSL_GUARDED_BY and those that use them
  tests/clang_check.py tidy       .clang-tidy's checks of every file and our headers
  tests/clang_check.py includes   whether a file includes what it uses; the newest files first

All take files or folders to read instead of all, --newest N, for those that changed last, and
--minutes N, which ends a run early and says what was not read. Wants a configured build folder (--build, default build/release) whose messages
are generated: deploy/build.sh release tessera_proto tessera_grpc. Every file is read with the flags
it is built with, but without precompiled headers. For `tidy` files of the same flags are read
together, as one: most of its time goes into what they include. Exits with 1 where something is found.
"""
import argparse
import concurrent.futures
import itertools
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOT_CLANG = {"kernels/cpu/instruction_sets.cc"}  # clang 14 does not know GCC's name of F16C
FOLDERS = ("proto", "kernels", "worker", "coordinator", "benchmarks")
TOGETHER = 40  # files, at most


def clang_commands(build):
    """{path below the root: arguments for clang}, for the programs' own C++ files."""
    commands = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = os.path.relpath(entry["file"], ROOT)
        if path.split("/")[0] not in FOLDERS or not path.endswith(".cc") or path in commands \
                or path in NOT_CLANG:
            continue
        arguments, words = ["clang++"], iter(shlex.split(entry["command"])[1:])
        for word in words:
            if word in ("-o", "-include"):
                skipped = next(words)
                if word == "-include" and "cmake_pch" not in skipped:
                    arguments += [word, skipped]
            elif word == "-isystem":
                arguments.append(word + next(words))
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


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")


class Alone:
    """One file at a time."""

    def __init__(self, commands, build, flags):
        self.commands, self.build, self.flags = commands, build, flags

    def batches(self, paths):
        return [[p] for p in paths]

    def read(self, paths):
        found, output = run(self.commands[paths[0]] + self.flags + [str(ROOT / paths[0])], self.build)
        return ({paths[0]: output} if found else {})


class Together:
    """clang-tidy of files that one file includes, which stands beside a copy of the .clang-tidy
    that holds for them. Files that have a name in common stand apart."""

    def __init__(self, commands, build, folder):
        self.commands, self.build, self.folder = commands, build, folder
        self.numbers = itertools.count()
        for config in [".clang-tidy"] + [f"{f}/.clang-tidy" for f in FOLDERS]:
            if (ROOT / config).exists():
                (folder / config).parent.mkdir(exist_ok=True)
                shutil.copy(ROOT / config, folder / config)

    def batches(self, paths):
        alike = {}
        for path in paths:
            config = path.split("/")[0] if (self.folder / path.split("/")[0]).exists() else "."
            flags = [a for a in self.commands[path] if re.match("-(D|m|std=|include)", a)]
            alike.setdefault((config, *sorted(flags)), []).append(path)
        batches = []
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for group in itertools.chain(*pool.map(self.compatible, alike.values())):
                count = -(-len(group) // TOGETHER)
                batches += [group[i::count] for i in range(count)]
        return sorted(batches, key=len, reverse=True)

    def compatible(self, paths):
        """The paths as lists of files that compile together."""
        if len(paths) == 1:
            return [paths]
        arguments, file = self.write(paths)
        failed, output = run(arguments + ["-w", "-ferror-limit=0", str(file)], self.build)
        if not failed:
            return [paths]
        named = set(re.findall(r"^(?:In file included from )?(\S+?):\d+", output, re.M))
        apart = [p for p in paths if str(ROOT / p) in named]
        if not 0 < len(apart) < len(paths):
            apart = paths[1:]
        return self.compatible([p for p in paths if p not in apart]) + self.compatible(apart)

    def write(self, paths):
        """(arguments with the folders that any of them is built with, the file)"""
        folder = self.folder / paths[0].split("/")[0]
        file = (folder if folder.exists() else self.folder) / f"together{next(self.numbers)}.cc"
        file.write_text("".join(f'#include "{ROOT / p}"\n' for p in paths))
        return list(dict.fromkeys(a for p in paths for a in self.commands[p])), file

    def read(self, paths):
        arguments, file = self.write(paths)
        failed, output = run(["clang-tidy", "--quiet", "--checks=-bugprone-suspicious-include",
                              f"--header-filter=^{ROOT}/({'|'.join(FOLDERS)})/", str(file), "--"]
                             + arguments[1:], self.build)
        findings = {}
        for finding in re.split(r"^(?=\S+:\d+:\d+: (?:error|warning):)", output, flags=re.M):
            where = re.match(rf"{ROOT}/(\S+?):\d+:\d+: ", finding)
            if where or failed and "error" in finding:
                path = where[1] if where else paths[0]
                findings[path] = findings.get(path, "") + finding
        return findings


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("check", choices=("locks", "tidy", "includes"))
    parser.add_argument("paths", nargs="*", help="files or folders; default: all")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--newest", type=int, help="only so many files, those that changed last")
    parser.add_argument("--minutes", type=float, default=0, help="end then (0: read everything)")
    options = parser.parse_intermixed_args()

    commands = clang_commands(options.build)
    paths = [p for p in commands
             if not options.paths or any(re.match(re.escape(o.rstrip("/")) + "(/|$)", p)
                                         for o in options.paths)]
    paths = files_with_locks(paths) if options.check == "locks" else newest_first(paths)
    paths = paths[:options.newest]
    if not paths:
        sys.exit("error: nothing to read")
    start = time.monotonic()
    end = start + options.minutes * 60 if options.minutes else float("inf")

    with tempfile.TemporaryDirectory() as folder:
        if options.check == "tidy":
            reader = Together(commands, options.build, pathlib.Path(folder))
        else:
            flags = ["-Wthread-safety", "-Werror=thread-safety"] if options.check == "locks" else []
            reader = Alone(commands, options.build, ["-Wno-everything"] + flags)

        def read(batch):
            return reader.read(batch) if time.monotonic() < end else None

        failed, read_files = {}, 0
        batches = reader.batches(paths)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for batch, found in zip(batches, pool.map(read, batches)):
                if found is None:
                    continue
                read_files += len(batch)
                for path, text in found.items():  # a header's may come from several
                    if path not in failed:
                        failed[path] = text
                        print(f"== {path}\n{text}", flush=True)
    print(f"{options.check}: {read_files} of {len(paths)} files read in "
          f"{time.monotonic() - start:.0f} s, {len(failed)} with findings"
          + (": " + " ".join(failed) if failed else ""))
    sys.exit(1 if failed else 0)


main()
