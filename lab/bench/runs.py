"""One run: a fresh node (P3), a fresh proxy, a warm-up, the load, the figures.

CPU is read before the load and after it, once the proxy has come to rest. The warm-up is not counted: it pays for what
happens once in a proxy's life (first-use imports, an interpreter specialising its byte code, first memory).
"""

import time
from contextlib import ExitStack
from pathlib import Path

from lab.bench.node import read_totals, start_node
from lab.bench.pairs import Run
from lab.bench.processes import Daemon
from lab.bench.sides import Side
from lab.bench.sipp import PORT, PROXY, Load, drive

WARM_UP = Load(calls=200, rate=200)


def run_side(side: Side, mode: str, load: Load, folder: Path, settle: float = 0.0) -> Run:
    """Measure `side` once; files and logs go to the new folder `folder`.

    `settle`: seconds to wait after the load before the CPU is read, so that work a proxy puts off (timers that end
    transactions) is counted as well.
    """
    warm_folder = folder / "warm-up"
    warm_folder.mkdir(parents=True)
    with ExitStack() as stack:
        if mode == "P3":
            stack.enter_context(start_node(folder))
        proxy = stack.enter_context(Daemon(side.name, side.command(mode, folder), folder / "proxy.log"))
        proxy.wait_bound(PROXY, PORT)
        proxy.wait_idle()
        warm = drive(WARM_UP, warm_folder)
        proxy.wait_idle()
        before = proxy.cpu()
        counters = drive(load, folder)
        time.sleep(settle)
        proxy.wait_idle()
        used = proxy.cpu() - before
        proxy.check()
        complaint = ""
        if mode == "P3":
            complaint = read_totals().complaint(load.calls + WARM_UP.calls)
        return Run(
            side=side.name,
            calls=load.calls,
            failed=counters.failed + warm.failed,
            retransmissions=counters.retransmissions + warm.retransmissions,
            cpu_us=used.total / load.calls * 1e6,
            system_us=used.system / load.calls * 1e6,
            complaint=complaint,
        )
