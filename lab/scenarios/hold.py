"""Hold and unhold by re-INVITE, from either side and from both at once."""

from __future__ import annotations

import trio

from lab.call import Call, IncomingCall, OutgoingCall
from lab.scenario import CALLEE_TONE, CALLER_TONE, Findings, Lab, Scenario, connected, hung_up

PHASE = 1.2
"""Seconds each state is held for."""


class HoldBothSides(Scenario):
    """Caller holds and unholds, callee holds and unholds, then both hold and unwind in the order they came."""

    name = "hold_both_sides"
    summary = "hold and unhold by the caller, by the callee, by both: silence where held, audio back after it"
    timeout = 60.0
    call: OutgoingCall
    incoming: IncomingCall

    def __init__(self) -> None:
        self.statuses: list[tuple[str, int]] = []
        self.phases: list[tuple[str, bool, bool, float, float]] = []
        """(state, whether the caller must hear, whether the callee must hear, from, until)."""

    async def run(self, lab: Lab) -> None:
        self.call, self.incoming = await connected(lab)
        caller, callee = self.call, self.incoming
        await self._phase("at first", caller_hears=True, callee_hears=True)
        await self._change("caller holds", caller, holding=True)
        await self._phase("while the caller holds", caller_hears=False, callee_hears=True)
        await self._change("caller unholds", caller, holding=False)
        await self._phase("after the caller's unhold", caller_hears=True, callee_hears=True)
        await self._change("callee holds", callee, holding=True)
        await self._phase("while the callee holds", caller_hears=True, callee_hears=False)
        await self._change("callee unholds", callee, holding=False)
        await self._phase("after the callee's unhold", caller_hears=True, callee_hears=True)
        await self._change("caller holds again", caller, holding=True)
        await self._change("callee holds too", callee, holding=True)
        await self._phase("while both hold", caller_hears=False, callee_hears=False)
        await self._change("caller unholds first", caller, holding=False)
        await self._phase("while only the callee holds", caller_hears=True, callee_hears=False)
        await self._change("callee unholds last", callee, holding=False)
        await self._phase("at last", caller_hears=True, callee_hears=True)
        await hung_up(self.incoming, self.call)

    async def _change(self, what: str, who: Call, *, holding: bool) -> None:
        self.statuses.append((what, await (who.hold() if holding else who.unhold())))

    async def _phase(self, state: str, *, caller_hears: bool, callee_hears: bool) -> None:
        start = trio.current_time()
        await trio.sleep(PHASE)
        self.phases.append((state, caller_hears, callee_hears, start, trio.current_time()))

    def check(self, see: Findings) -> None:
        for what, status in self.statuses:
            see.equal(f"reply to the re-INVITE ({what})", status, 200)
        for state, caller_hears, callee_hears, start, end in self.phases:
            for who, call, tone, hears in (
                ("caller", self.call, CALLEE_TONE, caller_hears),
                ("callee", self.incoming, CALLER_TONE, callee_hears),
            ):
                if hears:
                    see.heard(who, call, tone, start, end, state)
                else:
                    see.silent(who, call, start, end, state)
        for who, call in (("caller", self.call), ("callee", self.incoming)):
            see.once(who, call)
            see.one_origin(who, call)
        see.notes = [f"{len(self.statuses)} re-INVITEs accepted, {len(self.phases)} states heard as they should be"]
