#!/usr/bin/env python3
"""Writes C++ headers with the messages of proto/tessera/v1 for machines without Protobuf.

    make_messages.py FOLDER     makes FOLDER/tessera/v1/{model,cluster}.pb.h

The worker's core takes plans, descriptions and results as those messages, and needs of Protobuf
nothing but fields with their accessors and a way to bytes and back. What is written here has the
same names and meanings (tiny_messages.h has the rest), and no wire format: bytes pass between ranks
of one program.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCALARS = {"int32": "int32_t", "int64": "int64_t", "uint32": "uint32_t", "uint64": "uint64_t",
           "sfixed32": "int32_t", "float": "float", "double": "double", "bool": "bool",
           "string": "std::string", "bytes": "std::string"}


class Parser:
    """proto3 as far as our files go: messages, enums, oneofs; services and options are skipped."""

    def __init__(self, text):
        text = re.sub(r"//[^\n]*", "", text)
        self.tokens = re.findall(r'"[^"]*"|[\w.]+|[{}=;(),<>]', text)
        self.at = 0

    def take(self):
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, token):
        found = self.take()
        if found != token:
            before = self.tokens[max(0, self.at - 5):self.at - 1]
            sys.exit(f"expected {token!r}, found {found!r} after {before}")

    def skip_statement(self):
        """To the end of a statement, or of its braces."""
        depth = 0
        while True:
            token = self.take()
            depth += (token == "{") - (token == "}")
            if depth == 0 and token in (";", "}"):
                return

    def file(self):
        messages, enums = [], []
        while self.at < len(self.tokens):
            keyword = self.take()
            if keyword == "message":
                messages.append(self.message())
            elif keyword == "enum":
                enums.append(self.enum())
            else:
                self.skip_statement()
        return messages, enums

    def enum(self):
        name, values = self.take(), []
        self.expect("{")
        while (token := self.take()) != "}":
            self.expect("=")
            values.append((token, int(self.take())))
            self.expect(";")
        return name, values

    def message(self):
        name, fields, enums = self.take(), [], []
        self.expect("{")
        while (token := self.take()) != "}":
            if token == "enum":
                enums.append(self.enum())
            elif token == "oneof":  # as fields of which the sender sets one
                self.take()
                self.expect("{")
                while (token := self.take()) != "}":
                    fields.append(self.field(token))
            else:
                fields.append(self.field(token))
        return name, fields, enums

    def field(self, token):
        """(how often, type, name)"""
        label = ""
        if token in ("repeated", "optional"):
            label, token = token, self.take()
        name = self.take()
        self.expect("=")
        self.take()
        self.expect(";")
        return label, token, name


def field_code(label, kind, name, enums):
    """The accessors of a field, and its declaration."""
    is_message = kind not in SCALARS and kind not in enums
    cpp = SCALARS.get(kind, kind)
    macro = {"repeated": "REPEATED", "optional": "OPTIONAL", "": "SINGLE"}[label]
    macro += "_MESSAGE" if is_message else "_STRING" if cpp == "std::string" else "_SCALAR"
    return f"  TINY_{macro}({cpp}, {name})"


def enum_code(enum, indent, prefix=""):
    name, values = enum
    lines = [f"{indent}enum {name} : int {{"]
    lines += [f"{indent}  {value} = {number}," for value, number in values] + [f"{indent}}};"]
    if not indent:
        lines += [f"inline constexpr int {name}_ARRAYSIZE = {max(n for _, n in values) + 1};",
                  f"inline bool {name}_IsValid(int value) {{",
                  f"  return value >= 0 && value < {name}_ARRAYSIZE;",
                  "}",
                  f"inline std::string {name}_Name(int value) {{",
                  "  switch (value) {"]
        lines += [f'    case {number}: return "{value}";' for value, number in values]
        lines += ["    default: return {};", "  }", "}"]
    return lines


def header(messages, enums, known_enums, includes):
    names = {name for name, _, _ in messages}
    lines = ["// Made by tests/gpu/standalone/make_messages.py.", "#pragma once",
             '#include "tiny_messages.h"']
    lines += includes + ["namespace tessera::v1 {"]
    for enum in enums:
        lines += enum_code(enum, "")
    waiting, done = list(messages), set()
    while waiting:  # a message after those that it has fields of
        ready = next(message for message in waiting
                     if all(kind not in names or kind in done for _, kind, _ in message[1]))
        waiting.remove(ready)
        name, fields, own_enums = ready
        done.add(name)
        all_enums = known_enums | {enum for enum, _ in own_enums}
        lines += [f"class {name} : public tiny::Message<{name}> {{", " public:"]
        for enum in own_enums:
            lines += enum_code(enum, "  ")
        lines += [field_code(*field, all_enums) for field in fields]
        visits = "".join(f" visit({field}_);" for _, _, field in fields)
        lines += ["  template <typename Visitor>",
                  f"  void Visit([[maybe_unused]] Visitor&& visit) {{{visits} }}",
                  "};"]
    return "\n".join(lines + ["}  // namespace tessera::v1", ""])


def main():
    out = pathlib.Path(sys.argv[1]) / "tessera/v1"
    out.mkdir(parents=True, exist_ok=True)
    known_enums = set()
    for name, includes in (("model", []), ("plan", ['#include "tessera/v1/model.pb.h"']),
                           ("cluster", ['#include "tessera/v1/plan.pb.h"'])):
        messages, enums = Parser((ROOT / f"proto/tessera/v1/{name}.proto").read_text()).file()
        known_enums |= {enum for enum, _ in enums}
        text = header(messages, enums, known_enums, includes)
        path = out / f"{name}.pb.h"
        if not path.exists() or path.read_text() != text:  # its age says whether objects are stale
            path.write_text(text)


if __name__ == "__main__":
    main()
