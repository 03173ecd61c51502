"""Calls that end before they are answered."""

from __future__ import annotations

import trio

from lab.call import IncomingCall, OutgoingCall
from lab.scenario import CALLEE, Findings, Lab, Scenario, invited, within


class Cancel(Scenario):
    """The caller gives up while it rings."""

    name = "cancel"
    summary = "the caller gives up while it rings: 200 to CANCEL, 487 to the caller, the callee stops ringing"
    call: OutgoingCall
    incoming: IncomingCall
    cancel_status: int
    outcome: int

    async def run(self, lab: Lab) -> None:
        caller, callee = await lab.pair()
        self.call = await caller.call(CALLEE)
        self.incoming = await invited(callee, self.call)
        self.incoming.ring()
        await within(self.call.ringing.wait, 5.0, "the caller never got the 180")
        await trio.sleep(0.5)
        self.cancel_status = await self.call.cancel()
        with trio.move_on_after(5.0):
            await self.call.done.wait()
        await within(self.incoming.ended.wait, 3.0, "the callee's INVITE was never cancelled")

    def check(self, see: Findings) -> None:
        see.equal("reply to CANCEL", self.cancel_status, 200)
        see.equal("final reply to the caller's INVITE", self.call.status, 487)
        see.equal("what ended the callee's call", self.incoming.ended_by, "CANCEL")
        see.notes.append(f"caller got {self.call.status}, callee's INVITE ended by {self.incoming.ended_by}")


class Busy(Scenario):
    """The callee is busy."""

    name = "busy"
    summary = "the callee says 486: the caller gets 486, media is given back"
    call: OutgoingCall

    async def run(self, lab: Lab) -> None:
        caller, callee = await lab.pair()
        self.call = await caller.call(CALLEE)
        incoming = await invited(callee, self.call)
        incoming.reject(486)
        await within(self.call.done.wait, 5.0, "the caller never got a final reply")

    def check(self, see: Findings) -> None:
        see.equal("final reply to the caller's INVITE", self.call.status, 486)
        see.notes.append(f"caller got {self.call.status}")
