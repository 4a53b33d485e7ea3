#!/usr/bin/env python3
"""Runs a command in a terminal of its own and draws what it showed, as SVG.

  deploy/terminal_picture.py deploy/quickstart.svg --skip 'Building' -- deploy/quickstart.sh

The picture is of the screen's end state: a progress bar that was wiped is not in it. Knows what our
programs write (bold, dim, colours, carriage return, erasing a line), no more. --skip leaves out lines
that match; --recording FILE draws a file instead of running something.
"""
import argparse
import os
import pathlib
import pty
import re
import sys
from html import escape

COLUMNS = 116
CELL, LINE, MARGIN = 7.8, 18, 16  # pixels
COLOURS = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "34": "#79c0ff", "36": "#76e3ea"}
PLAIN, BACKGROUND = "#e6edf3", "#0d1117"


def record(command):
    """What the command writes to a terminal of COLUMNS columns."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS))
        os.execvp(command[0], command)
    output = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        output += piece
    if os.waitpid(pid, 0)[1] != 0:
        sys.exit(f"{command[0]} failed:\n{output.decode(errors='replace')}")
    return output.decode()


def screen(output):
    """Lines of (character, style) cells."""
    lines, style = [[]], ""
    column = 0
    for code, parameters, letter, character in re.findall(
            r"(\x1b\[([\d;]*)([A-Za-z]))|([^\x1b])", output):
        if code:
            if letter == "m":
                style = "" if parameters in ("", "0") else parameters
            elif letter == "K":
                del lines[-1][column:]
        elif character == "\r":
            column = 0
        elif character == "\n":
            lines.append([])
            column = 0
        else:
            if column == COLUMNS:
                lines.append([])
                column = 0
            lines[-1][column:column + 1] = [(character, style)]
            column += 1
    return lines


def css(style):
    parts = style.split(";")
    colour = next((COLOURS[part] for part in parts if part in COLOURS), PLAIN)
    weight = ' font-weight="bold"' if "1" in parts else ""
    faint = ' opacity="0.6"' if "2" in parts else ""
    return f'fill="{colour}"{weight}{faint}'


def runs(line):
    """(first column, text, style) of each stretch of one style without a gap of two spaces: placed one
    by one, columns of tables stay in line whatever font there is."""
    begin = 0
    while begin < len(line):
        end = begin
        while end < len(line) and line[end][1] == line[begin][1]:
            end += 1
        text = "".join(character for character, _ in line[begin:end])
        for part in re.finditer(r"\S+(?: \S+)*", text):
            yield begin + part.start(), part.group(), line[begin][1]
        begin = end


def draw(lines):
    width = max(map(len, lines)) * CELL + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
           f'font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="13">',
           f'<rect width="{width:.0f}" height="{height}" rx="8" fill="{BACKGROUND}"/>']
    for number, line in enumerate(lines):
        for column, text, style in runs(line):
            out.append(f'<text x="{MARGIN + column * CELL:.1f}" y="{MARGIN + number * LINE + 13}" '
                       f'textLength="{len(text) * CELL:.1f}" xml:space="preserve" {css(style)}>'
                       f'{escape(text)}</text>')
    return "\n".join(out + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--skip", action="append", default=[], help="a regular expression")
    parser.add_argument("--recording", type=pathlib.Path)
    parser.add_argument("command", nargs="*", help="after --")
    arguments = parser.parse_args()
    if bool(arguments.command) == bool(arguments.recording):
        parser.error("give a command or --recording")
    shown = f"$ {' '.join(arguments.command)}\n" if arguments.command else ""
    output = shown + (arguments.recording.read_bytes().decode() if arguments.recording
                      else record(arguments.command))
    lines = screen(output.rstrip())
    lines = [line for line in lines
             if not any(re.search(pattern, "".join(c for c, _ in line)) for pattern in arguments.skip)]
    arguments.picture.write_text(draw(lines))


if __name__ == "__main__":
    main()
