"""One run of our side under cProfile, told as microseconds per SIP call: where the time of a call goes.

Times are CPU time during the load (see `profiled`). The profiler makes every Python call dearer, so the sum is far
above the bench's figure: read it for proportions, and mistrust small functions called often. The dump stays in the
run's folder for other viewers (`python -m pstats`).
"""

import os
import pstats
import signal
import time
from contextlib import ExitStack
from pathlib import Path

from lab.bench.node import start_node
from lab.bench.processes import BenchError, Daemon
from lab.bench.runs import WARM_UP
from lab.bench.sides import Ours
from lab.bench.sipp import PORT, PROXY, Load, drive

Entry = tuple[int, int, float, float, dict[object, object]]
"""What pstats keeps of a function: primitive calls, calls, own seconds, cumulative seconds, callers."""


def record(mode: str, load: Load, folder: Path) -> Path:
    """Run our side once, profiled during the load, and return the dump."""
    (folder / "warm-up").mkdir(parents=True)
    dump = folder / "proxy.prof"
    side = Ours("ours, profiled", wrapper=("-m", "lab.bench.profiled", str(dump)))
    with ExitStack() as stack:
        if mode == "P3":
            stack.enter_context(start_node(folder))
        proxy = stack.enter_context(Daemon(side.name, side.command(mode, folder), folder / "proxy.log"))
        proxy.wait_bound(PROXY, PORT)
        drive(WARM_UP, folder / "warm-up")
        os.kill(proxy.pid, signal.SIGUSR1)
        drive(load, folder)
        os.kill(proxy.pid, signal.SIGUSR2)
        until = time.monotonic() + 20.0
        while not dump.exists():
            proxy.check()
            if time.monotonic() > until:
                raise BenchError(f"the profiler wrote no {dump}; see {proxy.log}")
            time.sleep(0.05)
    return dump


def table(dump: Path, calls: int, rows: int = 30) -> str:
    """The `rows` functions with most time of their own: own and cumulative microseconds, and calls, per SIP call."""
    entries: dict[tuple[str, int, str], Entry] = pstats.Stats(str(dump)).stats  # type: ignore[attr-defined]
    dearest = sorted(entries.items(), key=lambda item: item[1][2], reverse=True)[:rows]
    lines = [f"{'own us':>8} {'cum us':>9} {'calls':>7}  function   (each per SIP call, over {calls} calls)"]
    for (file, number, name), (_, count, own, cumulative, _) in dearest:
        where = name if file == "~" else f"{_short(file)}:{number} {name}"
        lines.append(f"{own / calls * 1e6:8.1f} {cumulative / calls * 1e6:9.1f} {count / calls:7.2f}  {where}")
    return "\n".join(lines)


def _short(file: str) -> str:
    """A file's path from the project's or the libraries' root."""
    for root in (os.getcwd(), str(Path(os.__file__).parent / "site-packages"), str(Path(os.__file__).parent)):
        if file.startswith(root + os.sep):
            return file[len(root) + 1 :]
    return file.rpartition("site-packages/")[2]
