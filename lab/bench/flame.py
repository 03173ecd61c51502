"""A flame graph from folded stacks, as an SVG file that needs no script and no other program.

Width is CPU time, the row above a box holds what it called, the order is alphabetical. Boxes carry a tooltip with
their share; those too narrow to be seen are left out, and text is cut to what fits. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from xml.sax.saxutils import escape
from zlib import crc32

WIDTH = 1200
ROW = 17
TITLE = 28
CHARACTER = 6.2
"""Pixels a character of the text takes."""

LEAST = 0.6
"""Pixels below which a box is left out."""


@dataclass
class Box:
    """A function in one place of the stacks: samples in it and in what it called."""

    name: str
    samples: int = 0
    inside: dict[str, Box] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """Rows it needs, with its own."""
        return 1 + max((box.depth for box in self.inside.values()), default=0)


def tree(lines: Iterable[str]) -> Box:
    """Folded lines (`outer;inner 17`) as one box around all; what every stack begins with is cut off."""
    root = Box("all")
    for line in lines:
        stack, _, count = line.rpartition(" ")
        box = root
        box.samples += int(count)
        for name in stack.split(";"):
            box = box.inside.setdefault(name, Box(name))
            box.samples += int(count)
    while len(root.inside) == 1:
        (only,) = root.inside.values()
        if only.samples < root.samples or not only.inside:
            break
        root = Box("all", root.samples, only.inside)
    return root


def _boxes(box: Box, x: float, row: int, scale: float) -> Iterator[tuple[Box, float, int]]:
    if box.samples * scale < LEAST:
        return
    yield box, x, row
    for _, inner in sorted(box.inside.items()):
        yield from _boxes(inner, x, row + 1, scale)
        x += inner.samples * scale


def _colour(name: str) -> str:
    """Ours warm, libraries cool; the same name always the same."""
    shade = crc32(name.encode()) % 50
    if name.startswith(("proxy.", "ng_protocol.", "route")):
        return f"rgb(240,{120 + shade},60)"
    return f"rgb({130 + shade},{175 + shade},225)"


def svg(folded: str, title: str) -> str:
    """The picture of these folded stacks."""
    root = tree(folded.splitlines())
    rows = root.depth
    height = TITLE + rows * ROW + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="DejaVu Sans Mono, monospace" font-size="10">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="18" font-size="13">{escape(title)}</text>',
    ]
    scale = WIDTH / max(root.samples, 1)
    for box, x, row in _boxes(root, 0.0, 0, scale):
        wide, y = box.samples * scale, height - 4 - (row + 1) * ROW
        share = 100.0 * box.samples / root.samples
        fits = int((wide - 4) / CHARACTER)
        short = box.name if len(box.name) <= fits else box.name[-fits:] if fits > 3 else ""
        parts.append(
            f"<g><title>{escape(box.name)}: {share:.1f} %, {box.samples} samples</title>"
            f'<rect x="{x:.1f}" y="{y}" width="{max(wide - 0.4, 0.2):.1f}" height="{ROW - 1}" rx="1" '
            f'fill="{_colour(box.name)}"/><text x="{x + 2:.1f}" y="{y + 12}">{escape(short)}</text></g>'
        )
    return "\n".join([*parts, "</svg>", ""])
