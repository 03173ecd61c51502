"""A media node is well in part: control without media, media without control, or an operator wants it empty."""

from __future__ import annotations

from dataclasses import replace

import trio

from lab.faults import Cut
from lab.scenario import Findings, Lab, Scenario, dial, hung_up
from lab.scenarios.outage import AFTER, BEFORE, STANDBY, Outage, Pair, unusable, usable
from lab.topology import Shape
from lab.ua import Phone

PARTED = 4.0
"""Seconds a partition lasts: long enough for any edge that takes silence for death."""


class ControlPartition(Scenario):
    """The edge cannot reach the node's control port, but media flows. Then the whole host goes."""

    name = "control_partition"
    summary = "only the ng port is cut off: the live call stays, new ones avoid the node; then media goes too: it moves"
    shape = Shape(nodes=2)
    settings = STANDBY
    timeout = 60.0
    settle = 8.0
    new: Pair
    last: Pair

    async def run(self, lab: Lab) -> None:
        self.nodes = lab.nodes
        first = lab.nodes[0]
        caller, callee = await lab.pair()
        self.stayed = await _talk(caller, callee)
        self.stayed.event = trio.current_time()
        await first.cut(Cut.CONTROL)
        self.state = await unusable(lab, first.name)
        self.new = await _talk(caller, callee)
        await trio.sleep_until(self.stayed.event + PARTED)
        self.stayed.settled, self.stayed.until = self.stayed.event, trio.current_time()
        self.moved = self.stayed.moved

        self.gone = Pair(self.stayed.call, self.stayed.incoming, self.stayed.event, event=trio.current_time())
        await first.cut(Cut.EVERYTHING)
        await trio.sleep(2.5)
        self.gone.settled = trio.current_time()
        await trio.sleep(AFTER)
        self.gone.until = trio.current_time()

        await first.heal()
        await usable(lab, first.name)
        self.last = await _talk(caller, callee)
        for pair in (self.stayed, self.new, self.last):
            await hung_up(pair.call, pair.incoming)

    def check(self, see: Findings) -> None:
        first, second = self.nodes
        self.stayed.judge(see, before=first, after=first, gap=0.2, what="the partition began")
        see.equal("re-INVITEs during the partition", self.moved, 0)
        self.gone.judge(see, before=first, after=second, gap=2.0, what="media went too")
        for pair, node, when in ((self.new, second, "in the partition"), (self.last, first, "after it")):
            for who, end, tone in pair.sides:
                see.heard(who, end, tone, pair.since, pair.until, f"in a new call {when}")
                see.from_node(who, end, node.host.public, pair.since, pair.until, f"in a new call {when}")
        see.notes.insert(0, f"the edge called it {self.state}; no re-INVITE in {PARTED:g} s; then {self.gone.told()}")


class HalfDeadNode(Outage):
    """Its control port answers everything, and no RTP goes through."""

    name = "half_dead_node"
    summary = "control answers, RTP does not pass: found by the canary, new calls avoid it, the live call is moved"
    settings = replace(STANDBY, sections={"nodes": {"evacuate_half_dead": True}})
    recovery = 3.0
    new: Pair

    async def happen(self, lab: Lab) -> None:
        self.nodes = lab.nodes
        self.pair.event = trio.current_time()
        await lab.nodes[0].cut(Cut.MEDIA)
        self.state = await unusable(lab, lab.nodes[0].name)
        self.found = trio.current_time() - self.pair.event

    async def resume(self, pair: Pair) -> None:
        await super().resume(pair)
        self.new = await _talk(pair.call.phone, pair.incoming.phone)
        await hung_up(self.new.call, self.new.incoming)

    def check(self, see: Findings) -> None:
        first, second = self.nodes
        self.pair.judge(see, before=first, after=second, gap=3.0)
        for who, end, tone in self.new.sides:
            see.heard(who, end, tone, self.new.since, self.new.until, "in a new call")
            see.from_node(who, end, second.host.public, self.new.since, self.new.until, "in a new call")
        see.notes.insert(0, f"called {self.state} after {self.found:.2f} s; {self.pair.told()}")


class DrainEvacuate(Scenario):
    """`mediactl node drain`: first only no new calls, then away with those it has."""

    name = "drain_evacuate"
    summary = "mediactl node drain: new calls avoid it, hold still works on it; --evacuate moves its calls; undrain"
    shape = Shape(nodes=2)
    settings = STANDBY
    timeout = 60.0
    settle = 5.0
    count = 4
    new: Pair
    last: Pair

    async def run(self, lab: Lab) -> None:
        self.nodes = lab.nodes
        first, _ = lab.nodes
        caller, callee = await lab.pair()
        self.pairs = [await _talk(caller, callee, 0.0) for _ in range(self.count)]
        await trio.sleep(BEFORE)

        self.plan = await lab.edge.mediactl("node", "drain", first.name, "--evacuate", "--dry-run")
        self.moved_by_plan = sum(pair.moved for pair in self.pairs)
        self.held = len(await first.live_calls())

        await lab.edge.mediactl("node", "drain", first.name)
        self.new = await _talk(caller, callee)
        self.statuses = [await self.pairs[0].incoming.hold(), await self.pairs[0].incoming.unhold()]
        self.moved_by_drain = len(await first.live_calls()) - self.held
        await trio.sleep(0.5)

        for pair in self.pairs:
            pair.since, pair.event = trio.current_time() - 0.3, trio.current_time()
        self.progress = await lab.edge.mediactl("node", "drain", first.name, "--evacuate", "--wait")
        self.took = trio.current_time() - self.pairs[0].event
        with trio.move_on_after(3.0):
            while await first.live_calls():  # noqa: ASYNC110 - another process's state
                await trio.sleep(0.05)
        self.left = await first.live_calls()
        for pair in self.pairs:
            pair.settled = trio.current_time()
        await trio.sleep(AFTER)
        for pair in self.pairs:
            pair.until = trio.current_time()

        await lab.edge.mediactl("node", "undrain", first.name)
        self.last = await _talk(caller, callee)
        for pair in (*self.pairs, self.new, self.last):
            await hung_up(pair.call, pair.incoming)

    def check(self, see: Findings) -> None:
        first, second = self.nodes
        see.equal("calls on the node before", self.held, self.count)
        see.equal("re-INVITEs after --dry-run", self.moved_by_plan, 0)
        see.equal("calls that left the node by draining alone", self.moved_by_drain, 0)
        see.equal("replies to hold and unhold on the draining node", self.statuses, [200, 200])
        see.equal("calls left on the node after --evacuate --wait", self.left, [])
        for number, pair in enumerate(self.pairs, 1):
            pair.judge(see, before=first, after=second, gap=0.3, what=f"call {number} was evacuated")
        for pair, node, when in ((self.new, second, "while it drained"), (self.last, first, "after undrain")):
            for who, end, tone in pair.sides:
                see.heard(who, end, tone, pair.since, pair.until, f"in a new call {when}")
                see.from_node(who, end, node.host.public, pair.since, pair.until, f"in a new call {when}")
        worst = max(max(pair.gaps()) for pair in self.pairs)
        see.notes.insert(
            0, f"{self.count} calls evacuated in {self.took:.2f} s, silent for {worst * 1e3:.0f} ms at most"
        )


async def _talk(caller: Phone, callee: Phone, seconds: float = AFTER) -> Pair:
    """A new call that talks for a while."""
    pair = Pair(*await dial(caller, callee), since=trio.current_time())
    await trio.sleep(seconds)
    pair.until = trio.current_time()
    return pair
