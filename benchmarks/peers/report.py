"""compare.py's results as a Markdown table and an SVG of the ratios.

  rows = [Row("smollm2-q4_1", "tg128", ours=255.0, theirs=145.0, share=0.62), ...]
"""
import dataclasses
import datetime
import os
import platform
from html import escape


@dataclasses.dataclass
class Row:
    model: str
    test: str
    ours: float
    theirs: float
    share: float = None  # of the read speed, where one stream decodes

    @property
    def ratio(self):
        return self.ours / self.theirs


def machine():
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as cpuinfo:
            model = next(line.split(":", 1)[1].strip() for line in cpuinfo
                         if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {os.cpu_count()} cores"


def caption(peer, threads, turns):
    return (f"tokens/s, {threads} threads, medians of {turns} turns A B A B; {machine()}; "
            f"{datetime.date.today().isoformat()}; peer: {peer}")


def markdown(rows, peer, threads, turns):
    lines = [caption(peer, threads, turns), "",
             f"| model | test | Tessera | {peer} | ratio | share of read speed |",
             "|---|---|---:|---:|---:|---:|"]
    for row in rows:
        share = f"{row.share:.2f}" if row.share is not None else ""
        lines.append(f"| {row.model} | {row.test} | {row.ours:.0f} | {row.theirs:.0f} "
                     f"| {row.ratio:.2f} | {share} |")
    return "\n".join(lines) + "\n"


BAR, GAP, LEFT, WIDTH = 14, 6, 190, 420


def svg(rows, peer, threads, turns):
    """One bar per row: ours over theirs; the line stands at 1."""
    longest = max(1.0, max(row.ratio for row in rows)) * 1.1
    height = 46 + len(rows) * (BAR + GAP) + 10
    at = lambda ratio: LEFT + WIDTH * ratio / longest
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 70}" '
             f'height="{height}" font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>',
             f'<text x="8" y="18" font-size="13">Tessera over {escape(peer)}: tokens/s</text>',
             f'<text x="8" y="34" font-size="9" fill="#555">{escape(caption(peer, threads, turns))}'
             '</text>']
    for i, row in enumerate(rows):
        y = 46 + i * (BAR + GAP)
        color = "#2b7a4b" if row.ratio >= 1 else "#b23b3b"
        parts += [f'<text x="8" y="{y + BAR - 3}">{escape(row.model)} {escape(row.test)}</text>',
                  f'<rect x="{LEFT}" y="{y}" width="{at(row.ratio) - LEFT:.1f}" height="{BAR}" '
                  f'fill="{color}"/>',
                  f'<text x="{at(row.ratio) + 4:.1f}" y="{y + BAR - 3}">{row.ratio:.2f}</text>']
    parts += [f'<line x1="{at(1):.1f}" x2="{at(1):.1f}" y1="42" y2="{height - 8}" stroke="black" '
              'stroke-dasharray="3 2"/>', "</svg>"]
    return "\n".join(parts) + "\n"
