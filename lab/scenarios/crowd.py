"""Five hundred live calls on one media node, and the node is gone: killed, or its host cut off without a word."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import trio

from lab.crowd import Crowd, open_crowd
from lab.crowd_report import Figures
from lab.faults import Cut
from lab.proxy import EdgeSettings
from lab.scenario import CALLEE, Failed, Findings, Lab, Scenario
from lab.scenarios.outage import usable
from lab.switch import Kind
from lab.topology import Shape

CALLS = 500
TALKING = 100
RATE = 60.0
"""Calls set up, and hung up, a second."""
COMPLETE = 3.0
"""Seconds within which both ends of every call must have been re-INVITEd."""


@dataclass(frozen=True)
class Way:
    """A way to die, and the media gaps allowed in seconds."""

    name: str
    p50: float
    p99: float


KILLED = Way("daemon killed", 0.2, 1.0)
SILENT = Way("host gone silently", 1.0, 2.0)


@asynccontextmanager
async def crowd_of(lab: Lab, calls: int, talking: int, seed: str) -> AsyncIterator[Crowd]:
    """A running crowd; who talks is drawn at random."""
    drawn = random.Random(seed).sample(range(calls), talking)
    crowd = await trio.to_thread.run_sync(open_crowd, lab.network, calls, drawn)
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
        return True
    return truth()


def cpu_seconds(pid: int) -> float:
    """User and system time a process has used (proc(5), clock ticks of 10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def all_up(crowd: Crowd, calls: int) -> None:
    """Set every call up. Raises Failed."""
    crowd.call_all(RATE)

    def standing() -> int:
        return sum(a.up and b.up for a, b in zip(*crowd.ends, strict=True))

    if not await until(lambda: standing() == calls, calls / RATE + 15):
        refused = sorted({end.status for end in crowd.ends[0]} - {0, 200})
        raise Failed(f"only {standing()} of {calls} calls came up; final replies: {refused or 'none'}")


async def all_down(crowd: Crowd) -> int:
    """Hang every call up that is left; how many callees never heard of it."""
    left = [b for a, b in zip(*crowd.ends, strict=True) if a.up]
    crowd.hang_up(RATE)
    await until(lambda: all(end.ended for end in left), len(left) / RATE + 8)
    return sum(not end.ended for end in left)


class NodeDies500Calls(Scenario):
    """All calls on the first node; the standby takes them over. Twice: each way of dying has its limits."""

    name = "node_dies_500_calls"
    summary = f"{CALLS} calls, {TALKING} with RTP, on a node killed, then on one cut off: none dropped, audio back"
    shape = Shape(nodes=2)
    settings = EdgeSettings(
        users={CALLEE: f"sip:{CALLEE}@203.0.113.9:5060"},
        log_level="warning",
        nodes=({"weight": 1000}, {"weight": 1}),
        sections={"media": {"sample_interval": 600.0, "silence": 600.0}},  # the edge does not know who talks
    )
    node_arguments = (("--log-level=3",), ("--log-level=3",))
    kinds: ClassVar[tuple[Kind, ...]] = (Kind.STAND_IN,)
    alone = True
    timeout = 150.0
    settle = 10.0
    ways: ClassVar[tuple[Way, ...]] = (KILLED, SILENT)

    def __init__(self) -> None:
        self.figures: list[tuple[Way, Figures, int, float]] = []
        """(way, what happened, BYEs that never arrived, the edge's CPU per moved call in seconds)."""

    async def run(self, lab: Lab) -> None:
        for way in self.ways:
            await usable(lab, "node1")
            await self._once(lab, way)
            if way is KILLED:
                await lab.nodes[0].restart()
            else:
                await lab.nodes[0].heal()

    async def _once(self, lab: Lab, way: Way) -> None:
        node = lab.nodes[0]
        async with crowd_of(lab, CALLS, TALKING, f"{lab.folder.name} {way.name}") as crowd:
            await all_up(crowd, CALLS)
            held = len(await node.live_calls())
            if held != CALLS:
                raise Failed(f"{held} of {CALLS} calls are on {node.name}: the first tier should have them all")
            await trio.sleep(1.0)
            before = cpu_seconds(lab.edge.daemon.pid)
            event = time.monotonic()
            if way is KILLED:
                await node.kill()
            else:
                await node.cut(Cut.EVERYTHING)
            await trio.sleep(COMPLETE + 1.0)
            used = cpu_seconds(lab.edge.daemon.pid) - before
            figures = Figures.of(crowd, event, node.host.public, time.monotonic() - 0.5)
            lost = await all_down(crowd)
            self.figures.append((way, figures, lost, used / CALLS))

    def check(self, see: Findings) -> None:
        for way, figures, lost, cpu in self.figures:
            judge(see, way, figures)
            see.that(not lost, f"{way.name}: {lost} callees never got the BYE")
            see.notes.append(f"{figures.line(way.name)}; edge {cpu * 1e3:.2f} ms CPU a call")


def judge(see: Findings, way: Way, figures: Figures) -> None:
    """The limits of the issue."""
    see.equal(f"{way.name}: calls dropped", figures.dropped, 0)
    see.equal(f"{way.name}: calls re-INVITEd on both sides within {COMPLETE:g} s", figures.within(COMPLETE), CALLS)
    see.equal(f"{way.name}: talking calls with audio again", figures.audible, TALKING)
    see.equal(f"{way.name}: RTP packets that reached another call's phone", figures.strangers, 0)
    for share, limit in ((50, way.p50), (99, way.p99)):
        gap = figures.gap(share / 100)
        told = f"{way.name}: media gap p{share} {gap * 1e3:.0f} ms, more than {limit * 1e3:.0f} ms"
        see.that(gap <= limit, told)
