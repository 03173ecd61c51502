"""docs/performance.md: parts the bench writes between marks, and everything else, which belongs to people.

    <!-- bench: results -->
    ...
    <!-- end: results -->

A part is replaced where it stands; prose around the parts is never touched. A page without the part gets it at its
end, and a page that does not exist begins as TEMPLATE. Pure, but for `write`.
"""

import re
from pathlib import Path

from lab.bench.processes import BenchError

TEMPLATE = """\
# Performance

CPU per call of the proxy beside Kamailio with the same work in the same run. `make bench` writes what stands between
the marks; the rest of this page is written by hand and stays.

<!-- bench: results -->
<!-- end: results -->

## How it is measured

Both proxies run on loopback in a network namespace of their own, under the same sipp scenarios
(`lab/bench/scenarios`), in turns: ours, peer, ours, peer. A figure is the user and system time of the proxy's whole
process tree over the calls of the run; 200 calls before it warm up. The ratio of a mode is the median of its pairs. A
pair in which a call failed or anything was retransmitted is thrown out and repeated at most three times; after that the
mode has no ratio. The peer is Kamailio's best of `children` 1, 2 and 4; a setting with failed calls is left out,
and so is one whose calls fail in every try of a pair: then the next cheapest takes its place, from the first pair on.

<!-- bench: memory -->
<!-- end: memory -->

<!-- bench: profile -->
<!-- end: profile -->
"""


def marks(name: str) -> tuple[str, str]:
    """The lines around the part `name`."""
    return f"<!-- bench: {name} -->", f"<!-- end: {name} -->"


def replaced(page: str, name: str, text: str) -> str:
    """`page` with `text` as its part `name`; BenchError when the page's marks do not make a part."""
    first, last = marks(name)
    part = f"{first}\n{text.strip()}\n{last}"
    if (page.count(first), page.count(last)) == (0, 0):
        return f"{page.rstrip()}\n\n{part}\n"
    pattern = re.compile(f"{re.escape(first)}\n.*?{re.escape(last)}", re.DOTALL)
    if (page.count(first), page.count(last), len(pattern.findall(page))) != (1, 1, 1):
        raise BenchError(f"the page's marks of {name} are damaged: it needs one line {first} before one line {last}")
    return pattern.sub(lambda _: part, page)


def write(path: Path, name: str, text: str) -> None:
    """Put `text` into the part `name` of the page at `path`."""
    page = path.read_text() if path.exists() else TEMPLATE
    changed = replaced(page, name, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(changed)
