#!/usr/bin/env python3
"""deploy/terminal_picture.py: what a terminal shows in the end, drawn where it stands."""
import pathlib
import sys
import xml.dom.minidom

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "deploy"))
import terminal_picture  # noqa: E402


def texts(output):
    """{text: element} of the picture."""
    picture = xml.dom.minidom.parseString(terminal_picture.draw(terminal_picture.screen(output)))
    return {element.firstChild.data: element for element in picture.getElementsByTagName("text")}


def main():
    seen = texts("loading 10%\r\x1b[Kloading 90%\r\x1b[K\r\n\x1b[32mready:\x1b[0m a <b>\r\n"
                 "rank  host\r\n   0    vm\r\n\x1b[1mbold\x1b[0m\r\n" + "x" * 120)
    assert set(seen) == {"ready:", "a <b>", "rank", "host", "0", "vm", "bold", "x" * 116, "xxxx"}, seen
    assert seen["ready:"].getAttribute("fill") != seen["vm"].getAttribute("fill")
    assert seen["bold"].getAttribute("font-weight") == "bold"
    end = {word: float(seen[word].getAttribute("x")) + len(word) * terminal_picture.CELL
           for word in ("rank", "0", "host", "vm")}
    assert abs(end["rank"] - end["0"]) < 0.2 and abs(end["host"] - end["vm"]) < 0.2, end
    print("the picture shows what the terminal did")


if __name__ == "__main__":
    main()
