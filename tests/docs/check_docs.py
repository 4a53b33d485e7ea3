#!/usr/bin/env python3
"""Holds every Markdown page against the tree that it describes.

  tests/docs/check_docs.py [TREE]      # fails and names page, line and what is wrong

  README.md     at most 120 lines, and names every folder of the top level in its table of the code
  FOLDER/README.md stands in each of those folders, and names each of their sub-folders that holds
                sources
  links         relative ones lead to a file or folder of the tree, a #fragment to a heading there
  `paths`       that begin with one of our folders exist. Braces and * as the shell has them; what is
                built (build/...) and what no longer looks like a path is not read

TREE is the repository, this one by default. Pages are those under it, outside of build/ and hidden
folders.
"""
import glob
import itertools
import pathlib
import re
import sys

MAX_README_LINES = 120
OURS = ("proto", "kernels", "worker", "coordinator", "deploy", "tests", "benchmarks")
# Folders without sources of their own kind to speak of.
NOT_NAMED = {"tests/golden", "tests/gpu/standalone"}
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
PATH = re.compile(r"(?:%s)/[\w./{},*+-]*\w[\w./{},*+-]*" % "|".join(OURS))


def pages(tree):
    for path in sorted(tree.rglob("*.md")):
        parts = path.relative_to(tree).parts
        if not any(part.startswith(".") or part == "build" for part in parts):
            yield path


def lines_outside_fences(path):
    """(number, line) of prose and tables; what stands between ``` is left to the fence check."""
    fenced = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def fenced_lines(path):
    fenced = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced:
            yield number, line


def slug(heading):
    """A heading's fragment, as GitHub makes it."""
    text = re.sub(r"[`*_]|\[([^\]]*)\]\([^)]*\)", lambda m: m.group(1) or "", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def fragments(path):
    return {slug(line.lstrip("#")) for _, line in lines_outside_fences(path) if line.startswith("#")}


def braces(text):
    """a{b,c}d as abd, acd."""
    match = re.search(r"\{([^{}]*)\}", text)
    if match is None:
        return [text]
    return list(itertools.chain.from_iterable(
        braces(text[:match.start()] + part + text[match.end():])
        for part in match.group(1).split(",")))


def named_paths(text):
    """What in a piece of code looks like one of our paths."""
    for word in re.split(r"[\s\"'=:;()|]+", text):
        match = PATH.fullmatch(word.rstrip(".,"))
        if match:
            yield from braces(match.group(0).rstrip("/"))


def check_link(page, tree, target):
    if re.match(r"[a-z]+:", target):
        return None
    where, _, fragment = target.partition("#")
    there = page.parent / where if where else page
    if not there.exists():
        return f"the link to {target} leads nowhere"
    if not there.resolve().is_relative_to(tree.resolve()):
        return f"the link to {target} leads out of the tree"
    if fragment:
        if there.is_dir():
            there = there / "README.md"
        if there.suffix == ".md" and fragment not in fragments(there):
            return f"{target}: no heading makes #{fragment}"
    return None


def check_page(page, tree):
    found = []
    for number, line in lines_outside_fences(page):
        for target in LINK.findall(line):
            wrong = check_link(page, tree, target)
            if wrong:
                found.append((number, wrong))
        for code in CODE.findall(line):
            found += [(number, f"`{path}` does not exist") for path in named_paths(code)
                      if not glob.glob(str(tree / path))]
    for number, line in fenced_lines(page):
        found += [(number, f"{path} does not exist") for path in named_paths(line)
                  if not glob.glob(str(tree / path))]
    return found


def has_sources(folder):
    return any(path.suffix in (".h", ".cc", ".cu", ".proto", ".py", ".sh")
               for path in folder.rglob("*"))


def check_folders(tree):
    readme = (tree / "README.md").read_text()
    for name in OURS:
        if not re.search(r"\[`%s`\]\(%s(/README\.md)?\)" % (name, name), readme):
            yield "README.md", f"its table of the code does not name {name}"
        page = tree / name / "README.md"
        if not page.exists():
            yield f"{name}/README.md", "is missing"
            continue
        text = page.read_text()
        for folder in sorted(path for path in (tree / name).iterdir() if path.is_dir()):
            relative = f"{name}/{folder.name}"
            if relative in NOT_NAMED or not has_sources(folder):
                continue
            if not re.search(r"`(%s/)?%s[`/]" % (name, re.escape(folder.name)), text):
                yield f"{name}/README.md", f"does not name {relative}"


def check(tree):
    """One line for each mistake."""
    found = []
    lines = len((tree / "README.md").read_text().splitlines())
    if lines > MAX_README_LINES:
        found.append(f"README.md: has {lines} lines; at most {MAX_README_LINES}")
    seen = 0
    for page in pages(tree):
        seen += 1
        found += [f"{page.relative_to(tree)}:{number}: {wrong}"
                  for number, wrong in check_page(page, tree)]
    found += [f"{page}: {wrong}" for page, wrong in check_folders(tree)]
    return seen, found


def main():
    tree = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]
    if not (tree / "README.md").exists():
        sys.exit(f"no README.md under '{tree}': nothing was checked")
    seen, found = check(tree)
    for line in found:
        print(line)
    if found:
        sys.exit(f"{len(found)} mistakes in {seen} pages")
    print(f"{seen} pages say what is there")


if __name__ == "__main__":
    main()
