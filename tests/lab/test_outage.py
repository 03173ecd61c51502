"""The figures a lost node leaves: the sentence, waiting, and the processor time of a process and its children."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import trio

from lab.crowd_report import Figures
from lab.outage import KILLED, SILENT, Loss, cpu_seconds, until


def test_a_line() -> None:
    figures = Figures(calls=4, complete=[0.5], talking=1, gaps=([0.1], [0.2]), audible=1)
    line = Loss(KILLED, figures, (0.02, None), 0, 0.008).line()
    assert line.startswith(
        "daemon killed: 4 calls, 0 dropped, 1 re-INVITEd on both sides (the last after 0.50 s); audio"
    )
    assert "200/200 ms to the callee; new calls answered in 20 ms, failed; edge 2.00 ms CPU a call" in line
    assert line.endswith("; 0.0% of the phones' packets late")
    assert Loss(SILENT, Figures(gaps=([], [])), (), 0, 0.0).line().startswith("host gone silently: 0 calls")
    assert math.isnan(Figures(gaps=([], [])).gap(0.5))


async def test_until(autojump_clock: trio.testing.MockClock) -> None:
    start = trio.current_time()
    assert await until(lambda: trio.current_time() >= start + 1, 5.0)
    assert 1.0 <= trio.current_time() - start < 1.1
    assert not await until(lambda: False, 2.0)


def test_cpu_time_counts_children() -> None:
    spin = "import time\nwhile time.process_time() < 0.25: pass\nprint('spun', flush=True)\ntime.sleep(60)"
    shell = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])"
    with subprocess.Popen([sys.executable, "-c", shell], stdout=subprocess.PIPE, start_new_session=True) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        used = cpu_seconds(parent.pid)
        os.killpg(parent.pid, 9)
    assert used >= 0.2
    assert cpu_seconds(parent.pid) == 0.0
