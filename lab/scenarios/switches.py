"""Several B2BUAs behind the edge, one of them dead."""

from __future__ import annotations

import signal
from typing import ClassVar

import trio

from lab.call import IncomingCall, OutgoingCall
from lab.scenario import (
    CALLEE,
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

CALLS = 3
"""Enough that an edge which takes them in turn meets the dead one."""


class DeadFirst(Scenario):
    """Base: two B2BUAs, the first gets `signal` before the first call; every call must go through the second."""

    shape = Shape(b2buas=2)
    timeout = 60.0
    signal: ClassVar[signal.Signals]
    limit: ClassVar[float]
    """Seconds a call may take to reach the callee."""

    def __init__(self) -> None:
        self.calls: list[tuple[OutgoingCall, IncomingCall, float, float, float]] = []
        """(the two ends, seconds until the callee was invited, talk from, until)."""

    async def run(self, lab: Lab) -> None:
        caller, callee = await lab.pair()
        lab.switches[0].daemon.send_signal(self.signal)
        for _ in range(CALLS):
            start = trio.current_time()
            call = await caller.call(CALLEE)
            incoming = await invited(callee, call, 8.0)
            delay = trio.current_time() - start
            incoming.ring()
            await within(call.ringing.wait, 5.0, "the caller never got the 180")
            await answered(call, incoming)
            begun = trio.current_time()
            await trio.sleep(1.0)
            self.calls.append((call, incoming, delay, begun, trio.current_time()))
            await hung_up(call, incoming)

    def check(self, see: Findings) -> None:
        for call, incoming, delay, begun, end in self.calls:
            see.heard("caller", call, incoming.port.tone, begun, end)
            see.heard("callee", incoming, CALLER_TONE, begun, end)
            see.once("caller", call)
            see.that(delay <= self.limit, f"a call took {delay:.1f} s to reach the callee, more than {self.limit:g} s")
        met = max(delay for _, _, delay, _, _ in self.calls)
        see.notes.insert(0, f"{CALLS} calls, at most {met:.2f} s to reach the callee")


class FreeswitchDeadNextOne(DeadFirst):
    """The first is killed: its port answers ICMP port unreachable."""

    name = "freeswitch_dead_next_one"
    summary = "two B2BUAs, the first killed (ICMP unreachable): every call goes through the second at once"
    signal = signal.SIGKILL
    limit = 0.5


class FreeswitchSilentNextOne(DeadFirst):
    """The first is stopped: it takes packets and says nothing."""

    name = "freeswitch_silent_next_one"
    summary = "two B2BUAs, the first hangs (no reply): every call goes through the second within 3 s"
    signal = signal.SIGSTOP
    limit = 3.0

    def check(self, see: Findings) -> None:
        super().check(see)
        slow = sum(delay > 1.0 for _, _, delay, _, _ in self.calls)
        see.that(slow <= 1, f"{slow} of {CALLS} calls waited for the B2BUA that hangs: known after the first")
