"""Prints registers, shared memory and spills of every CUDA kernel, and fails when a kernel of the
decode path spills or keeps anything on a stack:

    ptxas_report.py OBJECT...     # reads OBJECT.ptxas (deploy/cmake/keep_ptxas_report.sh)
"""

import re
import subprocess
import sys

# What one token's way through the model launches.
DECODE = ("SmallMatMul", "DecodeAttention", "MergeChunks", "RmsNorm", "RotateAndStore", "Pairwise",
          "Embed", "FillPlaceholders", "GatherRows", "SampleRows", "CopyKvBlock")


def kernels_of(text):
    """Yields (mangled name, architecture, numbers by what they count)."""
    parts = re.split(r"Compiling entry function '(\S+)' for '(\S+)'", text)
    for name, architecture, body in zip(parts[1::3], parts[2::3], parts[3::3]):
        numbers = {}
        for what in ("bytes stack frame", "bytes spill stores", "bytes spill loads"):
            numbers[what] = int(re.search(rf"(\d+) {what}", body).group(1))
        numbers["registers"] = int(re.search(r"Used (\d+) registers", body).group(1))
        shared = re.search(r"(\d+) bytes smem", body)
        numbers["bytes shared"] = int(shared.group(1)) if shared else 0
        yield name, architecture, numbers


def short(name):
    name = re.sub(r"tessera::kernels::cuda::|tessera::kernels::|\(anonymous namespace\)::|^void ",
                  "", name)
    return name.split("(tessera")[0].split("(View")[0].split("(RmsNorm")[0]


def demangled(names):
    out = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                         check=True).stdout
    return [short(line) for line in out.splitlines()]


def main(objects):
    rows = []
    for path in objects:
        with open(path + ".ptxas", encoding="utf-8") as file:
            rows += kernels_of(file.read())
    if not rows:
        sys.exit("no kernel found in " + ", ".join(objects))
    spilling = []
    print(f"{'arch':8} {'regs':>5} {'stack':>6} {'spills':>7} {'shared':>7}  kernel")
    for name, (_, architecture, numbers) in zip(demangled([row[0] for row in rows]), rows):
        spills = numbers["bytes spill stores"] + numbers["bytes spill loads"]
        stack = numbers["bytes stack frame"]
        print(f"{architecture:8} {numbers['registers']:5} {stack:6} {spills:7} "
              f"{numbers['bytes shared']:7}  {name}")
        if name.startswith(DECODE) and (spills or stack):
            spilling.append(f"{name} for {architecture}: {stack} bytes of stack, {spills} spilled")
    if spilling:
        sys.exit("kernels of the decode path spill:\n  " + "\n  ".join(spilling))


if __name__ == "__main__":
    main(sys.argv[1:])
