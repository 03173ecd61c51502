"""Where the time of a call goes: our side once under cProfile, once sampled for a flame graph.

Times of the table are CPU time during the load (see `profiled`). cProfile makes every Python call dearer, so the sum is
far above the bench's figure: read it for proportions and calls, and mistrust small functions called often. The samples
have no such bias. Both want the sources: of compiled modules neither sees anything, so a profile always runs them.
"""

import os
import pstats
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from lab.bench.build import ROOT, Build
from lab.bench.flame import svg
from lab.bench.modes import Mode
from lab.bench.processes import BenchError, Daemon
from lab.bench.runs import WARM_UP
from lab.bench.sides import Ours
from lab.bench.sipp import Load
from lab.bench.stage import stage

GENTLE = 400
"""Calls a second under cProfile at most: it makes the proxy several times slower."""

Entry = tuple[int, int, float, float, dict[object, object]]
"""What pstats keeps of a function: primitive calls, calls, own seconds, cumulative seconds, callers."""


@dataclass(frozen=True)
class Profile:
    """Of one mode: the table of functions, and the flame graph's file."""

    mode: Mode
    calls: int
    dump: Path
    flame: Path


def wrapper(how: str, file: Path) -> tuple[str, ...]:
    """What goes before our proxy's command line so that it is looked at in the way `how` (see `profiled`)."""
    return (str(ROOT / "lab" / "bench" / "profiled.py"), how, str(file))


def wait_for(file: Path, proxy: Daemon, timeout: float = 30.0) -> None:
    """Until the program has written `file`."""
    until = time.monotonic() + timeout
    while not file.exists():
        proxy.check()
        if time.monotonic() > until:
            raise BenchError(f"no {file} was written within {timeout:.0f} s; see {proxy.log}")
        time.sleep(0.05)


def look(how: str, mode: Mode, load: Load, folder: Path, file: Path) -> Path:
    """Run our side once in `folder`, looked at during the load, and return `file` with the result."""
    side = Ours(f"ours, {how}", wrapper=wrapper(how, file), build=Build(ROOT))
    with stage(side, mode, folder) as on:
        on.drive(WARM_UP, "warm-up")
        os.kill(on.proxy.pid, signal.SIGUSR1)
        counters = on.drive(load)
        os.kill(on.proxy.pid, signal.SIGUSR2)
        wait_for(file, on.proxy)
        if counters.failed or counters.retransmissions:
            raise BenchError(
                f"this is no profile of {mode.name}: {counters.failed} failed calls, {counters.retransmissions} "
                f"retransmissions with `{how}` in the way; ask for a lower --rate"
            )
    return file


def record(mode: Mode, load: Load, folder: Path) -> Profile:
    """Both looks at one mode; files stay in `folder`."""
    gentle = Load(load.calls, min(load.rate, GENTLE))
    dump = look("calls", mode, gentle, folder / "calls", folder / "calls" / "proxy.prof")
    folded = look("samples", mode, load, folder / "samples", folder / "samples" / "proxy.folded")
    flame = folder / f"flame-{mode.name}.svg"
    title = f"{mode.name}: {mode.words}, {load.rate} calls a second: CPU of our proxy (pure Python)"
    flame.write_text(svg(folded.read_text(), title))
    return Profile(mode, load.calls, dump, flame)


def dearest(dump: Path, calls: int, rows: int = 30) -> list[tuple[float, float, float, str]]:
    """The `rows` functions with most time of their own: own and cumulative microseconds, and calls, per SIP call, and
    where."""
    entries: dict[tuple[str, int, str], Entry] = pstats.Stats(str(dump)).stats  # type: ignore[attr-defined]
    found = sorted(entries.items(), key=lambda item: item[1][2], reverse=True)[:rows]
    return [
        (
            own / calls * 1e6,
            cumulative / calls * 1e6,
            count / calls,
            name if file == "~" else f"{_short(file)}:{number} {name}",
        )
        for (file, number, name), (_, count, own, cumulative, _) in found
    ]


def table(dump: Path, calls: int, rows: int = 30) -> str:
    """`dearest` as text."""
    lines = [f"{'own us':>8} {'cum us':>9} {'calls':>7}  function   (each per SIP call, over {calls} calls)"]
    for own, cumulative, count, where in dearest(dump, calls, rows):
        lines.append(f"{own:8.1f} {cumulative:9.1f} {count:7.2f}  {where}")
    return "\n".join(lines)


def _short(file: str) -> str:
    """A file's path from the project's or the libraries' root."""
    for root in (str(ROOT), str(Path(os.__file__).parent / "site-packages"), str(Path(os.__file__).parent)):
        if file.startswith(root + os.sep):
            return file[len(root) + 1 :]
    return file.rpartition("site-packages/")[2]
