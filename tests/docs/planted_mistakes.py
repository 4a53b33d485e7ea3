#!/usr/bin/env python3
"""Shows that check_docs.py can fail: plants one mistake at a time in a small tree.

  tests/docs/planted_mistakes.py
"""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import check_docs  # noqa: E402


def plant_clean_tree(tree):
    """A tree without a mistake; each kind of link and path is in it."""
    for name in check_docs.OURS:
        (tree / name / "part").mkdir(parents=True)
        (tree / name / "part" / "a.h").write_text("")
        (tree / name / "README.md").write_text(f"# {name}\n\n## A part\n\n`part`: see [it](part/a.h)\n")
    rows = "".join(f"| [`{name}`]({name}/README.md) | x |\n" for name in check_docs.OURS)
    (tree / "README.md").write_text(
        "# Tree\n\n| Folder | |\n|---|---|\n" + rows +
        "\n[a part](kernels/README.md#a-part) and [far away](https://example.org/x)\n"
        "`kernels/part/a.h`, `worker/{part,part}/*.h`, `kernels/part/a.h --flag`, `build/kernels/x`\n"
        "```\ndeploy/part/a.h  # runs\n```\n")
    (tree / "build").mkdir()
    (tree / "build" / "x.md").write_text("[gone](nowhere)\n")


def mistakes(change):
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        plant_clean_tree(tree)
        change(tree)
        return check_docs.check(tree)[1]


def append(page, text):
    def change(tree):
        with open(tree / page, "a") as file:
            file.write(text)
    return change


PLANTED = {
    "a link to nothing": (append("kernels/README.md", "[x](part/b.h)\n"),
                          "kernels/README.md:6: the link to part/b.h leads nowhere"),
    "a picture of nothing": (append("README.md", "![x](deploy/x.svg)\n"), "leads nowhere"),
    "a link out of the tree": (append("README.md", "[x](../)\n"), "leads out of the tree"),
    "a heading that is not there": (append("README.md", "[x](kernels/README.md#parts)\n"),
                                    "no heading makes #parts"),
    "a path that is not there": (append("worker/README.md", "`worker/part/b.h`\n"),
                                 "`worker/part/b.h` does not exist"),
    "one of two in braces": (append("README.md", "`worker/{part,whole}`\n"),
                             "`worker/whole` does not exist"),
    "a pattern without a file": (append("README.md", "`tests/part/*_test.cc`\n"), "does not exist"),
    "a path within a command": (append("README.md", "`tests/part/run.sh all`\n"), "does not exist"),
    "a path in a block of code": (append("README.md", "```\ndeploy/part/b.sh --x\n```\n"),
                                  "deploy/part/b.sh does not exist"),
    "a long README": (append("README.md", "\n" * 120), "at most 120"),
    "a folder that README forgets": (
        lambda tree: (tree / "README.md").write_text(
            (tree / "README.md").read_text().replace("| [`tests`](tests/README.md) | x |\n", "")),
        "does not name tests"),
    "a folder without a page": (lambda tree: (tree / "proto" / "README.md").unlink(),
                                "proto/README.md: is missing"),
    "a sub-folder that its page forgets": (
        lambda tree: ((tree / "proto" / "new").mkdir(),
                      (tree / "proto" / "new" / "a.proto").write_text("")),
        "proto/README.md: does not name proto/new"),
}


def main():
    clean = mistakes(lambda tree: None)
    if clean:
        sys.exit("found in a clean tree:\n" + "\n".join(clean))
    for name, (change, expected) in PLANTED.items():
        found = mistakes(change)
        if not any(expected in line for line in found):
            sys.exit(f"{name}: expected '{expected}', the checker said:\n" + "\n".join(found))
    print(f"every one of {len(PLANTED)} planted mistakes was found")


if __name__ == "__main__":
    main()
