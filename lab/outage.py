"""A crowd of calls loses its media node: the same measurement for whatever stands at the edge.

Theory of operation. `lose` sets the calls up, lets them talk, makes the node fail in one of two `Way`s, gives the edge
its time, places a few new calls, and hangs everything up. What the phones saw comes back as a `Loss`. It asks the edge
nothing and reads none of its logs, so that two different edges can be compared: only packets count.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from lab.crowd import PTIME, Crowd, open_crowd
from lab.crowd_report import Figures
from lab.faults import Cut
from lab.namespace import LabError
from lab.rtpengine import Node
from lab.topology import Network

RATE = 80.0
"""Calls set up, and hung up, a second."""
NEW_CALLS = 3
"""Calls placed after the node has failed, one after the other."""
REST = 6.5
"""Seconds the calls stand before the event: a proxy that looks at new calls after some seconds has done so."""
PATIENCE = 12.0
"""Seconds a new call may take."""


@dataclass(frozen=True)
class Way:
    """A way to fail, and the media gaps allowed in seconds."""

    name: str
    p50: float
    p99: float


KILLED = Way("daemon killed", 0.2, 1.0)
SILENT = Way("host gone silently", 1.0, 2.0)


@dataclass(frozen=True)
class Loss:
    """What the crowd saw. `delays`: seconds from INVITE to 200 of the calls placed after the event, None for one that
    failed, the first of them at once; `deaf`: callees that never got the BYE; `cpu`: seconds of the edge's processor
    time from the event until everything was over but the hanging up; `late`: share of the phones' RTP packets that
    left more than one packet time late, as the machine was busy: gaps are no finer than that."""

    way: Way
    figures: Figures
    delays: tuple[float | None, ...]
    deaf: int
    cpu: float
    late: float = 0.0

    def line(self) -> str:
        """For a person."""
        delays = ", ".join("failed" if delay is None else f"{delay * 1e3:.0f} ms" for delay in self.delays)
        share = self.cpu / max(1, self.figures.calls) * 1e3
        return (
            f"{self.figures.line(self.way.name)}; new calls answered in {delays}; edge {share:.2f} ms CPU a call;"
            f" {self.late:.1%} of the phones' packets late"
        )


@asynccontextmanager
async def crowd_of(network: Network, calls: int, talking: list[int], ptime: float = PTIME) -> AsyncIterator[Crowd]:
    """A running crowd."""
    crowd = await trio.to_thread.run_sync(open_crowd, network, calls, talking, ptime)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, crowd.run)
            try:
                yield crowd
            finally:
                crowd.stop()
    finally:
        crowd.close()


async def until(truth: Callable[[], bool], seconds: float) -> bool:
    """Whether it comes true within that time, looked at every 20 ms."""
    with trio.move_on_after(seconds):
        while not truth():  # noqa: ASYNC110 - another thread's state
            await trio.sleep(0.02)
    return truth()


def cpu_seconds(pid: int) -> float:
    """User and system time a process and its children have used (proc(5), clock ticks of 10 ms)."""
    total, parents = 0, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
        except OSError:  # it has just ended
            continue
        parents[int(stat.parent.name)] = (int(fields[1]), int(fields[11]) + int(fields[12]))
    family = [pid]
    for one in family:
        family += [child for child, (parent, _) in parents.items() if parent == one]
        total += parents[one][1] if one in parents else 0
    return total / 100


async def lose(
    network: Network,
    node: Node,
    way: Way,
    edge: int,
    *,
    calls: int,
    talking: int,
    rest: float,
    seed: str,
    ptime: float = PTIME,
) -> Loss:
    """Set `calls` calls up, `talking` of them with RTP and drawn at random, let `node` fail, and tell after `rest`
    seconds. `edge` is the edge's pid. Raises LabError when the calls do not come up."""
    drawn = random.Random(seed).sample(range(calls), talking)
    async with crowd_of(network, calls + NEW_CALLS, drawn, ptime) as crowd:
        await _all_up(crowd, calls)
        await trio.sleep(REST)
        used = cpu_seconds(edge)
        event = time.monotonic()
        if way is KILLED:
            await node.kill()
        else:
            await node.cut(Cut.EVERYTHING)
        delays = [await _call(crowd, calls)]
        await trio.sleep(max(0.0, event + rest - time.monotonic()))
        used = cpu_seconds(edge) - used
        figures = Figures.of(crowd, calls, event, node.host.public, time.monotonic() - 0.5)
        delays += [await _call(crowd, calls + number) for number in range(1, NEW_CALLS)]
        late = crowd.late / max(1, crowd.sent)
        return Loss(way, figures, tuple(delays), await _all_down(crowd), used, late)


async def _all_up(crowd: Crowd, calls: int) -> None:
    crowd.call(range(calls), RATE)

    def standing() -> int:
        return sum(a.up and b.up for a, b in zip(*crowd.ends, strict=True))

    if not await until(lambda: standing() == calls, calls / RATE + 15):
        refused = sorted({end.status for end in crowd.ends[0]} - {0, 200})
        raise LabError(f"only {standing()} of {calls} calls came up; final replies: {refused or 'none'}")


async def _call(crowd: Crowd, number: int) -> float | None:
    """Place one call; seconds until its 200."""
    crowd.call([number], 1.0)
    caller = crowd.ends[0][number]
    await until(lambda: caller.status != 0, PATIENCE)
    return caller.answered - caller.invited if caller.status == 200 else None


async def _all_down(crowd: Crowd) -> int:
    """Hang up what is up; how many callees never heard of it."""
    left = [callee for caller, callee in zip(*crowd.ends, strict=True) if caller.up]
    crowd.hang_up(RATE)
    await until(lambda: all(end.ended for end in left), len(left) / RATE + 8)
    return sum(not end.ended for end in left)
