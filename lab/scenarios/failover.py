"""A media node dies, hangs, comes back or fills up: with a call on it, and while a call is being set up."""

from __future__ import annotations

import trio

from lab.call import IncomingCall, OutgoingCall
from lab.rtpengine import Node
from lab.scenario import CALLEE, Findings, Lab, Scenario, answered, dial, hung_up, invited, within
from lab.scenarios.outage import AFTER, STANDBY, Outage, Pair, usable
from lab.topology import Shape
from lab.ua import Phone

T1 = 0.5
"""Seconds: the first retransmission interval, which is all a dead node may cost a new call."""


class NodeDiesMidCall(Outage):
    """SIGKILL. Afterwards both sides hold and unhold: the dialogs must have come through it unharmed."""

    name = "node_dies_mid_call"
    summary = "the call's rtpengine is killed: the call moves to the other one, hold and BYE work afterwards"
    recovery = 0.8
    statuses: list[int]
    held: list[tuple[float, float]]
    node: Node
    standby: Node

    async def happen(self, lab: Lab) -> None:
        self.node, self.standby = lab.nodes
        self.pair.event = trio.current_time()
        await self.node.kill()

    async def resume(self, pair: Pair) -> None:
        await super().resume(pair)
        self.statuses, self.held = [], []
        for end in (pair.incoming, pair.call):
            self.statuses.append(await end.hold())
            start = trio.current_time()
            await trio.sleep(0.8)
            self.held.append((start, trio.current_time()))
            self.statuses.append(await end.unhold())
            await trio.sleep(0.2)
        self.again = trio.current_time()
        await trio.sleep(1.0)
        self.end = trio.current_time()

    def check(self, see: Findings) -> None:
        pair = self.pair
        pair.judge(see, before=self.node, after=self.standby, gap=0.3)
        see.equal("replies to hold and unhold of both sides after the move", self.statuses, [200] * 4)
        see.silent("callee", pair.incoming, *self.held[0], "while it held")
        see.silent("caller", pair.call, *self.held[1], "while it held")
        for who, end, tone in pair.sides:
            see.heard(who, end, tone, self.again, self.end, "after the holds")
        see.notes.insert(0, pair.told())


class NodeStalls300ms(Outage):
    """SIGSTOP for 300 ms: nothing moves for that."""

    name = "node_stalls_300ms"
    summary = "the call's rtpengine hangs for 300 ms: no call moves, audio goes on"
    recovery = 0.5
    node: Node
    moved: int
    on_standby: list[str]

    async def happen(self, lab: Lab) -> None:
        self.node = lab.nodes[0]
        self.pair.event = trio.current_time()
        self.node.daemon.pause()
        await trio.sleep(0.3)
        self.node.daemon.resume()

    async def resume(self, pair: Pair) -> None:
        await super().resume(pair)
        self.moved = pair.moved

    def check(self, see: Findings) -> None:
        self.pair.judge(see, before=self.node, after=self.node, gap=0.5)
        see.equal("re-INVITEs the phones got", self.moved, 0)
        see.notes.insert(0, f"no re-INVITE, {self.pair.told()}")


class NodeRestartsMidCall(Outage):
    """Killed and started again at once, as a service manager does: it answers, and knows no call."""

    name = "node_restarts_mid_call"
    summary = "the call's rtpengine is restarted within a moment: the call is anchored again, on either node"
    recovery = 1.5
    node: Node
    down: float

    async def happen(self, lab: Lab) -> None:
        self.node = lab.nodes[0]
        self.pair.event = trio.current_time()
        await self.node.restart()
        self.down = trio.current_time() - self.pair.event

    def check(self, see: Findings) -> None:
        self.pair.judge(see, before=self.node, after=None, gap=1.2)
        see.notes.insert(0, f"{self.pair.told()}; the daemon was back after {self.down * 1e3:.0f} ms")


class NodeDiesDuringSetup(Scenario):
    """Killed, or hanging, before the INVITE; killed while the callee rings."""

    name = "node_dies_during_setup"
    summary = "rtpengine dies or hangs just before the INVITE, or dies while it rings: the caller sees nothing"
    shape = Shape(nodes=2)
    settings = STANDBY
    timeout = 60.0
    settle = 8.0

    def __init__(self) -> None:
        self.calls: list[tuple[str, OutgoingCall, IncomingCall, float, float, float]] = []
        """(case, the two ends, seconds to the callee, talk from, until)."""

    async def run(self, lab: Lab) -> None:
        caller, callee = await lab.pair()
        self.standby = lab.nodes[1].host.public
        node = lab.nodes[0]

        await node.kill()
        await self._call("killed before the INVITE", caller, callee, None)
        await node.restart()
        await usable(lab, node.name)

        node.daemon.pause()
        await self._call("hanging before the INVITE", caller, callee, None)
        node.daemon.resume()
        await usable(lab, node.name)

        await self._call("killed while it rang", caller, callee, node)

    async def _call(self, case: str, caller: Phone, callee: Phone, dies: Node | None) -> None:
        start = trio.current_time()
        call = await caller.call(CALLEE)
        incoming = await invited(callee, call)
        delay = trio.current_time() - start
        incoming.ring()
        await within(call.ringing.wait, 5.0, f"{case}: the caller never got the 180")
        if dies is not None:
            await dies.kill()
            await trio.sleep(0.5)
        await answered(call, incoming)
        await trio.sleep(0.5)  # what could only move once it was answered
        begun = trio.current_time()
        await trio.sleep(AFTER)
        self.calls.append((case, call, incoming, delay, begun, trio.current_time()))
        await hung_up(incoming, call)

    def check(self, see: Findings) -> None:
        for case, call, incoming, delay, begun, end in self.calls:
            see.equal(f"{case}: what the caller got", call.status, 200)
            for who, ear, mouth in (("caller", call, incoming), ("callee", incoming, call)):
                see.heard(who, ear, mouth.port.tone, begun, end, f"({case})")
                see.from_node(who, ear, self.standby, begun, end, f"({case})")
                see.once(who, ear)
                see.one_origin(who, ear)
            see.in_time(delay <= T1 + 0.15, f"{case}: the INVITE took {delay:.2f} s to reach the callee")
        delays = ", ".join(f"{delay * 1e3:.0f} ms {case}" for case, _, _, delay, _, _ in self.calls)
        see.notes.insert(0, f"to the callee in {delays}")


class NodeLoadLimit(Scenario):
    """The first node takes one call and says no to the next."""

    name = "node_load_limit"
    summary = "the first rtpengine is full (max-sessions): the next call goes to the other one, the same INVITE"
    shape = Shape(nodes=2)
    settings = STANDBY
    node_arguments = (("--max-sessions=2",),)  # the edge's canary is one of them
    timeout = 60.0
    settle = 5.0

    def __init__(self) -> None:
        self.calls: list[tuple[OutgoingCall, IncomingCall]] = []
        self.span = (0.0, 0.0)
        self.invites = 0
        self.state = ""

    async def run(self, lab: Lab) -> None:
        caller, callee = await lab.pair()
        self.addresses = [node.host.public for node in lab.nodes]
        for _ in range(3):
            self.calls.append(await dial(caller, callee))
        start = trio.current_time()
        await trio.sleep(AFTER)
        self.span = (start, trio.current_time())
        self.state = (await lab.edge.node_states())["node1"]
        self.invites = len(callee.calls)
        for call, incoming in self.calls:
            await hung_up(call, incoming)

    def check(self, see: Findings) -> None:
        for number, (call, incoming) in enumerate(self.calls):
            node = self.addresses[min(number, 1)]
            for who, ear, mouth in (("caller", call, incoming), ("callee", incoming, call)):
                see.heard(who, ear, mouth.port.tone, *self.span)
                see.from_node(who, ear, node, *self.span, f"of call {number + 1}")
        see.equal("INVITEs the callee got for 3 calls", self.invites, 3)
        see.equal("state of the full node", self.state, "up")
        see.notes.insert(0, "1 call on the full node, 2 on the other")
