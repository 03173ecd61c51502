"""Five hundred live calls on one media node, and the node is gone: killed, or its host cut off without a word."""

from __future__ import annotations

from typing import ClassVar

from lab.outage import KILLED, SILENT, Loss, Way, lose
from lab.proxy import EdgeSettings
from lab.scenario import CALLEE, Findings, Lab, Scenario
from lab.scenarios.outage import STANDBY, usable
from lab.switch import Kind
from lab.topology import Shape

CALLS = 500
TALKING = 100
COMPLETE = 3.0
"""Seconds within which both ends of every call must have been re-INVITEd."""
REST = 3.0
"""Seconds for which they are watched beyond that."""
NEW_CALL = 1.0
"""Seconds a call placed right after the event may take until its 200."""


class NodeDies500Calls(Scenario):
    """All calls on the first node; the standby takes them over. Twice: each way of dying has its limits."""

    name = "node_dies_500_calls"
    summary = f"{CALLS} calls, {TALKING} with RTP, on a node killed, then on one cut off: none dropped, audio back"
    shape = Shape(nodes=2)
    settings = EdgeSettings(
        users={CALLEE: f"sip:{CALLEE}@203.0.113.9:5060"},
        log_level="warning",
        nodes=STANDBY.nodes,
        sections={"media": {"sample_interval": 600.0, "silence": 600.0}},  # the edge does not know who talks
    )
    node_arguments = (("--log-level=3",), ("--log-level=3",))
    kinds: ClassVar[tuple[Kind, ...]] = (Kind.STAND_IN,)
    alone = True
    captured = False
    timeout = 150.0
    settle = 15.0
    ways: ClassVar[tuple[Way, ...]] = (KILLED, SILENT)

    def __init__(self) -> None:
        self.losses: list[Loss] = []

    async def run(self, lab: Lab) -> None:
        node = lab.nodes[0]
        for way in self.ways:
            await usable(lab, node.name)
            loss = await lose(
                lab.network,
                node,
                way,
                lab.edge.daemon.pid,
                calls=CALLS,
                talking=TALKING,
                rest=COMPLETE + REST,
                seed=f"{lab.folder.parent.name} {way.name}",
            )
            self.losses.append(loss)
            if way is KILLED:
                await node.restart()
            else:
                await node.heal()

    def check(self, see: Findings) -> None:
        for loss in self.losses:
            _judge(see, loss)
            see.notes.append(loss.line())


def _judge(see: Findings, loss: Loss) -> None:
    what, figures = loss.way.name, loss.figures
    see.equal(f"{what}: calls dropped", figures.dropped, 0)
    see.equal(f"{what}: calls re-INVITEd on both sides", figures.within(COMPLETE + REST), CALLS)
    in_time = figures.within(COMPLETE)
    see.in_time(
        in_time == CALLS, f"{what}: {in_time} calls re-INVITEd on both sides within {COMPLETE:g} s, not {CALLS}"
    )
    see.equal(f"{what}: calls on the node that talked", figures.talking, TALKING)
    see.equal(f"{what}: of these with audio again", figures.audible, TALKING)
    see.equal(f"{what}: RTP packets that reached another call's phone", figures.strangers, 0)
    see.equal(f"{what}: callees that never got the BYE", loss.deaf, 0)
    for share, limit in ((50, loss.way.p50), (99, loss.way.p99)):
        gap = figures.gap(share / 100)
        told = f"{what}: media gap p{share} {gap * 1e3:.0f} ms, more than {limit * 1e3:.0f} ms"
        see.in_time(gap <= limit, told)
    for number, delay in enumerate(loss.delays, 1):
        told = "failed" if delay is None else f"took {delay:.2f} s"
        see.that(delay is not None, f"{what}: new call {number} after it {told}")
        see.in_time(delay is None or delay <= NEW_CALL, f"{what}: new call {number} after it {told}")
