"""The edge itself is killed with SIGKILL in the middle of calls and started again."""

from __future__ import annotations

import json

import trio

from lab.scenario import Findings, Lab, Scenario, dial, hung_up
from lab.scenarios.outage import AFTER, BEFORE, STANDBY, Outage, Pair
from lab.topology import Shape


class ProxyKilledMidCall(Scenario):
    """Media goes on by itself; after the restart the edge must know its calls: list them, change them, end them."""

    name = "proxy_killed_mid_call"
    summary = "kill -9 of the edge with two calls up: after its restart they are listed, hold works, BYE deletes"
    shape = Shape(nodes=2)
    settings = STANDBY
    timeout = 60.0
    settle = 5.0

    async def run(self, lab: Lab) -> None:
        self.node = lab.nodes[0]
        caller, callee = await lab.pair()
        self.pairs = [Pair(*await dial(caller, callee), since=trio.current_time()) for _ in range(2)]
        await trio.sleep(BEFORE)
        for pair in self.pairs:
            pair.since, pair.event = trio.current_time() - BEFORE / 2, trio.current_time()
        await lab.edge.kill()
        await trio.sleep(0.5)
        await lab.edge.restart()
        self.away = trio.current_time() - self.pairs[0].event
        self.listed = json.loads(await lab.edge.mediactl("ls", "--json"))
        await trio.sleep(0.5)
        self.statuses = []
        for end in (self.pairs[0].incoming, self.pairs[0].call):
            self.statuses.append(await end.hold())
            start = trio.current_time()
            await trio.sleep(0.6)
            self.held = (start, trio.current_time())
            self.statuses.append(await end.unhold())
        for pair in self.pairs:
            pair.settled = trio.current_time()
        await trio.sleep(AFTER)
        for pair in self.pairs:
            pair.until = trio.current_time()
        await hung_up(self.pairs[0].call, self.pairs[0].incoming)
        await hung_up(self.pairs[1].incoming, self.pairs[1].call)

    def check(self, see: Findings) -> None:
        held, plain = self.pairs
        rows = self.listed if isinstance(self.listed, list) else self.listed.get("sessions", [])
        see.equal("calls `mediactl ls` lists after the restart", len(rows), 2)
        see.equal("replies to hold and unhold of both sides after the restart", self.statuses, [200] * 4)
        see.silent("caller", held.call, *self.held, "while it held")
        held.judge(see, before=self.node, after=self.node, gap=4.0, what="the restart (held for a while)")
        plain.judge(see, before=self.node, after=self.node, gap=0.2, what="the restart")
        see.notes.insert(0, f"the edge was away for {self.away:.2f} s; 2 calls listed; {plain.told()}")


class ProxyKilledNodeDies(Outage):
    """Nobody watches when the node dies: the edge finds out when it comes back."""

    name = "proxy_killed_node_dies"
    summary = "the edge is killed, then the call's rtpengine: after the edge's restart the call moves"
    recovery = 2.0

    async def happen(self, lab: Lab) -> None:
        self.nodes = lab.nodes
        self.died = trio.current_time()
        await lab.edge.kill()
        await lab.nodes[0].kill()
        self.pair.event = self.died
        await lab.edge.restart()
        self.back = trio.current_time()

    async def resume(self, pair: Pair) -> None:
        await trio.sleep_until(self.back + self.recovery)
        pair.settled = trio.current_time()
        await trio.sleep(AFTER)
        pair.until = trio.current_time()

    def check(self, see: Findings) -> None:
        away = self.back - self.died
        self.pair.judge(see, before=self.nodes[0], after=self.nodes[1], gap=away + self.recovery)
        see.notes.insert(0, f"the edge was away for {away:.2f} s; {self.pair.told()}")
