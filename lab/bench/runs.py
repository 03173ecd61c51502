"""One run: a fresh stage, a warm-up, the load, the figures.

CPU is read before the load and after it, once the proxy has come to rest. The warm-up is not counted: it pays for what
happens once in a proxy's life (first-use imports, an interpreter specialising its byte code, first memory).
"""

import time
from contextlib import ExitStack
from pathlib import Path

from lab.bench.delay import Delays, watch
from lab.bench.modes import Mode
from lab.bench.pairs import Run
from lab.bench.processes import udp_overflows
from lab.bench.sides import Side
from lab.bench.sipp import CALLEE, PORT, PROXY, Load
from lab.bench.stage import stage

WARM_UP = Load(calls=200, rate=400)


def too_slow(mode: Mode, load: Load, rate: float) -> str:
    """Why a run at `rate` calls a second does not count; "" when it does."""
    least = mode.at_least if load.rate >= mode.at_least else 0.0
    return f"only {rate:.0f} calls a second were held, {least:.0f} are wanted" if rate < least else ""


def run_side(side: Side, mode: Mode, load: Load, folder: Path, settle: float = 0.0) -> Run:
    """Measure `side` once; files and logs go to the new folder `folder`.

    `settle`: seconds to wait after the load before the CPU is read, so that work a proxy puts off (timers that end
    transactions) is counted as well.
    """
    with stage(side, mode, folder) as on, ExitStack() as stack:
        warm = on.drive(WARM_UP, "warm-up")
        on.proxy.wait_idle()
        delays = stack.enter_context(watch((PROXY, PORT), (CALLEE, PORT))) if mode.delay else Delays()
        overflows = udp_overflows()
        before, switch_before = on.proxy.cpu(), on.switch_cpu()
        counters = on.drive(load)
        time.sleep(settle)
        on.proxy.wait_idle()
        used, switch_used = on.proxy.cpu() - before, on.switch_cpu() - switch_before
        on.proxy.check()
        stack.close()
        complaint, repeats = on.proof(load.calls + WARM_UP.calls)
        problems = [complaint, too_slow(mode, load, counters.rate)]
        if mode.delay:
            problems.append(delays.complaint(load.calls))
        overflows = udp_overflows() - overflows
        notes = [
            f"the B2BUA {switch_used.total / load.calls * 1e6:.0f} us a call" if mode.switch else "",
            f"{overflows} datagrams lost to full buffers" if overflows else "",
        ]
        return Run(
            side=side.name,
            calls=load.calls,
            failed=counters.failed + warm.failed,
            retransmissions=counters.retransmissions + warm.retransmissions + repeats,
            cpu_us=used.total / load.calls * 1e6,
            system_us=used.system / load.calls * 1e6,
            complaint=", ".join(filter(None, problems)),
            rate=counters.rate,
            p50_us=delays.quantile(0.50),
            p99_us=delays.quantile(0.99),
            note=", ".join(filter(None, notes)),
        )
