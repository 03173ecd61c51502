"""What the stories about failing media nodes share: two nodes, the first of which takes every call, and how a call is
judged that lived through the loss of it."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from lab.call import Call, IncomingCall, OutgoingCall
from lab.proxy import EdgeSettings
from lab.rtpengine import Node
from lab.scenario import Failed, Findings, Lab, Scenario, connected, hung_up
from lab.topology import Shape

STANDBY = EdgeSettings(nodes=({"weight": 1}, {"tier": 1}))
"""Every call goes to the first node as long as it is well."""
USABLE = ("up", "unknown")
BEFORE, AFTER = 1.0, 1.5
"""Seconds of talk before the event, and after media must have settled."""


async def usable(lab: Lab, name: str, seconds: float = 10.0) -> None:
    """Wait until the edge takes the node for usable. Raises Failed."""
    state = "not listed"
    with trio.move_on_after(seconds):
        while (state := (await lab.edge.node_states()).get(name, state)) not in USABLE:  # noqa: ASYNC110
            await trio.sleep(0.05)
        return
    raise Failed(f"{seconds:g} s after {name} was well again the edge still says it is {state}")


async def unusable(lab: Lab, name: str, seconds: float = 5.0) -> str:
    """Wait until the edge no longer takes the node for usable; what it says it is. Raises Failed."""
    with trio.move_on_after(seconds):
        while (state := (await lab.edge.node_states()).get(name, "gone")) in USABLE:  # noqa: ASYNC110
            await trio.sleep(0.02)
        return state
    raise Failed(f"{seconds:g} s after {name} failed the edge still takes it for usable")


@dataclass
class Pair:
    """A call's two ends, and the moments it is judged by, in trio's time: both must hear each other in [since, event)
    and in [settled, until)."""

    call: OutgoingCall
    incoming: IncomingCall
    since: float
    event: float = 0.0
    settled: float = 0.0
    until: float = 0.0

    @property
    def sides(self) -> tuple[tuple[str, Call, int], ...]:
        """(who, end, the tone it must hear)."""
        return (
            ("caller", self.call, self.incoming.port.tone),
            ("callee", self.incoming, self.call.port.tone),
        )

    @property
    def moved(self) -> int:
        """Re-INVITEs the two phones have received."""
        return sum(end.requests.count("INVITE") for end in (self.call, self.incoming))

    def gaps(self) -> tuple[float, float]:
        """The longest silence around the event, at the caller and at the callee, in seconds."""
        caller, callee = (end.hearing.longest_gap(tone, self.event - 0.1, self.until) for _, end, tone in self.sides)
        return caller, callee

    def judge(self, see: Findings, *, before: Node, after: Node | None, gap: float, what: str = "") -> None:
        """Audio both ways before and after the event, from `before` and then from `after` (None: whichever, but both
        ends from the same), a silence of at most `gap` seconds, no loops, one o= line."""
        what = f" {what}" if what else ""
        for who, end, tone in self.sides:
            see.heard(who, end, tone, self.since, self.event, f"before{what}")
            see.heard(who, end, tone, self.settled, self.until, f"after{what}")
            see.from_node(who, end, before.host.public, self.since, self.event, f"before{what}")
            if after is not None:
                see.from_node(who, end, after.host.public, self.settled, self.until, f"after{what}")
            see.once(who, end)
            see.one_origin(who, end)
        see.from_peer("caller", self.call, self.incoming)
        see.from_peer("callee", self.incoming, self.call)
        carried = [{ip for ip, _ in end.hearing.sources(self.settled, self.until)} for _, end, _ in self.sides]
        see.that(carried[0] == carried[1], f"the two ends are on different nodes after{what}: {carried}")
        for (who, _, _), length in zip(self.sides, self.gaps(), strict=True):
            see.in_time(length <= gap, f"the {who} heard nothing for {length:.2f} s{what}, more than {gap:g} s")

    def told(self) -> str:
        """The silences, for a note."""
        caller, callee = self.gaps()
        return f"silence {caller * 1e3:.0f} ms to the caller, {callee * 1e3:.0f} ms to the callee"


class Outage(Scenario):
    """Base: a call on node 1, `happen`, some more talk, the caller hangs up. Node 2 stands by."""

    shape = Shape(nodes=2)
    settings = STANDBY
    timeout = 60.0
    settle = 8.0
    recovery = 1.5
    """Seconds after the event from when on audio is judged again."""
    pair: Pair

    async def run(self, lab: Lab) -> None:
        self.pair = await self.start(lab)
        await self.happen(lab)
        await self.resume(self.pair)
        await hung_up(self.pair.call, self.pair.incoming)

    async def start(self, lab: Lab) -> Pair:
        """A call that has talked for a while."""
        pair = Pair(*await connected(lab), since=trio.current_time())
        await trio.sleep(BEFORE)
        pair.event = trio.current_time()
        return pair

    async def resume(self, pair: Pair) -> None:
        """Let it talk on after the event."""
        await trio.sleep_until(pair.event + self.recovery)
        pair.settled = trio.current_time()
        await trio.sleep(AFTER)
        pair.until = trio.current_time()

    async def happen(self, lab: Lab) -> None:
        """The event."""
        raise NotImplementedError
