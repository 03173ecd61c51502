"""Calls that move to another media node against resistance: crossing re-INVITEs, and phones that refuse."""

from __future__ import annotations

import trio

from lab.call import Call
from lab.rtpengine import Node
from lab.scenario import Findings, Lab, Scenario, dial, hung_up, within
from lab.scenarios.outage import AFTER, BEFORE, STANDBY, Pair, usable
from lab.scenarios.trouble import ReinviteRefused as HoldRefused
from lab.topology import Shape

RETRIES = 4
"""How often a phone tries again after 491 (RFC 3261 14.1 says 0 to 4 s later)."""


class GlareDuringReanchor(Scenario):
    """The phones change their calls just when the edge moves them: each call at another moment of the move."""

    name = "glare_during_reanchor"
    summary = "phones hold and unhold in the very moments their calls are moved: all calls live, audio both ways"
    shape = Shape(nodes=2)
    settings = STANDBY
    timeout = 60.0
    settle = 8.0
    offsets = (-0.01, 0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08)
    """Seconds from the node's death to the phone's re-INVITE, one call each, from both sides in turn."""

    async def run(self, lab: Lab) -> None:
        self.nodes = lab.nodes
        caller, callee = await lab.pair()
        self.pairs = [Pair(*await dial(caller, callee), since=trio.current_time()) for _ in self.offsets]
        await trio.sleep(BEFORE)
        self.statuses: dict[float, list[int]] = {offset: [] for offset in self.offsets}
        event = trio.current_time() + 0.1
        for pair in self.pairs:
            pair.since, pair.event = event - 0.5, event - 0.02
        async with trio.open_nursery() as nursery:
            for number, (offset, pair) in enumerate(zip(self.offsets, self.pairs, strict=True)):
                end = pair.call if number % 2 == 0 else pair.incoming
                nursery.start_soon(self._change, end, event + offset, self.statuses[offset])
            await trio.sleep_until(event)
            await lab.nodes[0].kill()
        await trio.sleep(1.0)
        for pair in self.pairs:
            pair.settled = trio.current_time()
        await trio.sleep(AFTER)
        for pair in self.pairs:
            pair.until = trio.current_time()
        for pair in self.pairs:
            await hung_up(pair.call, pair.incoming)

    @staticmethod
    async def _change(end: Call, at: float, statuses: list[int]) -> None:
        """Hold, and take it back: each again after 491."""
        await trio.sleep_until(at)
        for act in (end.hold, end.unhold):
            for attempt in range(RETRIES):
                statuses.append(await act())
                if statuses[-1] != 491:
                    break
                await trio.sleep(0.3 + 0.2 * attempt)

    def check(self, see: Findings) -> None:
        for offset, statuses in self.statuses.items():
            final = [status for status in statuses if status != 491]
            see.equal(f"replies to hold and unhold {offset * 1e3:g} ms after the death, 491 aside", final, [200, 200])
        for pair in self.pairs:
            for who, end, tone in pair.sides:
                see.heard(who, end, tone, pair.settled, pair.until, "after all")
                see.from_node(who, end, self.nodes[1].host.public, pair.settled, pair.until, "after all")
                see.once(who, end)
                see.one_origin(who, end)
        pending = sum(status == 491 for statuses in self.statuses.values() for status in statuses)
        refused = sum(len(end.refused) for pair in self.pairs for end in (pair.call, pair.incoming))
        see.notes.insert(
            0, f"{len(self.pairs)} calls through it; 491 {pending} times for the phones, {refused} times from them"
        )


class ReinviteRefused(HoldRefused):
    """Besides a phone's hold, the edge's own re-INVITE is refused: once, and for ever."""

    name = "reinvite_refused"
    summary = (
        "488 to a hold, and to the edge's re-INVITE of a move: once, it tries again; always, both get BYE + Reason"
    )
    shape = Shape(nodes=2)
    settings = STANDBY
    timeout = 90.0
    settle = 8.0
    gave_up_within = 20.0

    async def run(self, lab: Lab) -> None:
        await super().run(lab)
        self.nodes = lab.nodes
        caller, callee = self.call.phone, self.incoming.phone
        self.once = await self._lose(lab, Pair(*await dial(caller, callee), since=trio.current_time()), once=True)
        await trio.sleep(3.0)
        self.once.settled = trio.current_time()
        await trio.sleep(AFTER)
        self.once.until = trio.current_time()
        await hung_up(self.once.call, self.once.incoming)

        await lab.nodes[0].restart()
        await usable(lab, lab.nodes[0].name)
        self.never = await self._lose(lab, Pair(*await dial(caller, callee), since=trio.current_time()), once=False)
        for end in (self.never.call, self.never.incoming):
            await within(
                end.ended.wait, self.gave_up_within, f"the {end.phone.name}'s call could not move and never ended"
            )
        self.took = trio.current_time() - self.never.event

    @staticmethod
    async def _lose(lab: Lab, pair: Pair, *, once: bool) -> Pair:
        node: Node = lab.nodes[0]
        await trio.sleep(BEFORE)
        if once:
            pair.incoming.refuse_next = 488
        else:
            pair.incoming.refuse_always = 488
        pair.event = trio.current_time()
        await node.kill()
        return pair

    def check(self, see: Findings) -> None:
        super().check(see)
        first, second = self.nodes
        self.once.judge(see, before=first, after=second, gap=3.0, what="a refusal")
        see.equal("re-INVITEs the callee refused that refuses once", len(self.once.incoming.refused), 1)
        for who, end, _ in self.never.sides:
            see.equal(f"what ended the {who}'s call that could not move", end.ended_by, "BYE from the peer")
            see.that("cause=" in end.bye_reason, f"the {who}'s BYE has no Reason: {end.bye_reason!r}")
        see.notes.insert(
            0,
            f"refused once: {self.once.told()}; always: given up after {self.took:.1f} s, {self.never.call.bye_reason}",
        )
