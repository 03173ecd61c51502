"""Several B2BUAs behind the edge, one of them dead."""

from __future__ import annotations

import signal

import trio

from lab.call import IncomingCall, OutgoingCall
from lab.scenario import (
    CALLEE,
    CALLEE_TONE,
    CALLER_TONE,
    Findings,
    Lab,
    Scenario,
    answered,
    hung_up,
    invited,
    within,
)
from lab.topology import Shape

CALLS = 4
"""Enough that an edge which only alternates meets the dead one."""


class FreeswitchDeadNextOne(Scenario):
    """Two B2BUAs: the first stops answering (SIGSTOP), later is killed (ICMP port unreachable); calls go through the
    second."""

    name = "freeswitch_dead_next_one"
    summary = "two B2BUAs, the first silent, then killed: every call goes through the second, quickly"
    shape = Shape(b2buas=2)
    timeout = 60.0

    def __init__(self) -> None:
        self.calls: list[tuple[str, OutgoingCall, IncomingCall, float, float, float]] = []
        """(state of the first B2BUA, the two ends, seconds until the callee was invited, talk from, until)."""

    async def run(self, lab: Lab) -> None:
        caller, callee = await lab.pair()
        for state, number, limit in (("silent", signal.SIGSTOP, 8.0), ("killed", signal.SIGKILL, 4.0)):
            lab.switches[0].daemon.send_signal(number)
            for _ in range(CALLS // 2):
                start = trio.current_time()
                call = await caller.call(CALLEE)
                incoming = await invited(callee, call, limit)
                delay = trio.current_time() - start
                incoming.ring()
                await within(call.ringing.wait, 5.0, "the caller never got the 180")
                await answered(call, incoming)
                begun = trio.current_time()
                await trio.sleep(1.0)
                self.calls.append((state, call, incoming, delay, begun, trio.current_time()))
                await hung_up(call, incoming)

    def check(self, see: Findings) -> None:
        for state, call, incoming, delay, begun, end in self.calls:
            when = f"with the first B2BUA {state}"
            see.heard("caller", call, CALLEE_TONE, begun, end, when)
            see.heard("callee", incoming, CALLER_TONE, begun, end, when)
            see.once("caller", call)
            limit = 5.0 if state == "silent" else 1.0
            see.that(delay <= limit, f"{when} it took {delay:.1f} s to reach the callee, more than {limit:g} s")
        delays = ", ".join(f"{delay:.2f} s ({state})" for state, _, _, delay, _, _ in self.calls)
        see.notes.insert(0, f"time to the callee: {delays}")
