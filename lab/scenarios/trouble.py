"""Calls in which something goes wrong that a good edge gets over."""

from __future__ import annotations

import signal

import trio

from lab import namespace
from lab.call import Call, IncomingCall, OutgoingCall
from lab.proxy import EdgeSettings
from lab.scenario import (
    CALLEE,
    CALLEE_TONE,
    CALLER_TONE,
    Failed,
    Findings,
    Lab,
    Scenario,
    answered,
    hung_up,
    invited,
    within,
)
from lab.scenarios.basic import Conversation

LOSS = 20
"""Per cent of SIP packets lost, in each direction, on the internet."""


class LossySignalling(Scenario):
    """SIP over a bad line: everything is retransmitted by somebody, nothing may happen twice."""

    name = "lossy_signalling"
    summary = f"{LOSS} % of the phones' SIP packets are lost: calls still connect, talk and end"
    settings = EdgeSettings(timers={"first_reply": 16.0})
    timeout = 90.0
    settle = 33.0  # a BYE whose replies are lost is repeated for 64*T1 = 32 s (RFC 3261 17.1.2.2 timer F)

    def __init__(self) -> None:
        self.calls: list[tuple[OutgoingCall, IncomingCall, float, float]] = []

    async def run(self, lab: Lab) -> None:
        rules = (
            # every SIP socket here is on 5060, so this rule sees both directions
            "table ip loss { chain lossy { type filter hook forward priority 0; policy accept;\n"
            f"udp dport 5060 numgen random mod 100 < {LOSS} drop\n"
            "}\n}\n"
        )
        await trio.to_thread.run_sync(namespace.nft, lab.network.ns("internet"), rules)
        caller, callee = await lab.pair()
        for _ in range(3):
            call = await caller.call(CALLEE)
            incoming = await invited(callee, call, 20.0)
            incoming.ring()
            await answered(call, incoming, 20.0)
            start = trio.current_time()
            await trio.sleep(1.0)
            self.calls.append((call, incoming, start, trio.current_time()))
            await hung_up(call, incoming, 20.0)

    def check(self, see: Findings) -> None:
        for call, incoming, start, end in self.calls:
            see.heard("caller", call, incoming.port.tone, start, end)
            see.heard("callee", incoming, CALLER_TONE, start, end)
            see.once("caller", call)


class UnknownCallee(Scenario):
    """A number nobody has."""

    name = "unknown_callee"
    summary = "a number nobody has: 404 to the caller"
    call: OutgoingCall

    async def run(self, lab: Lab) -> None:
        caller, _ = await lab.pair()
        self.call = await caller.call("7777")
        await within(self.call.done.wait, 5.0, "the caller never got a final reply")

    def check(self, see: Findings) -> None:
        see.equal("final reply to the caller's INVITE", self.call.status, 404)
        see.notes.append(f"caller got {self.call.status}")


class NoMediaNode(Scenario):
    """rtpengine is gone before the call comes."""

    name = "no_media_node"
    summary = "the only rtpengine was killed: the caller gets 503 within 3 s, not a silent call"
    call: OutgoingCall
    took: float

    async def run(self, lab: Lab) -> None:
        caller, callee = await lab.pair()
        lab.nodes[0].daemon.send_signal(signal.SIGKILL)
        start = trio.current_time()
        self.call = await caller.call(CALLEE)
        await within(self.call.done.wait, 10.0, "the caller never got a final reply")
        self.took = trio.current_time() - start
        if await callee.next_call(0.2) is not None:
            raise Failed("the callee was called although there is no media")

    def check(self, see: Findings) -> None:
        see.equal("final reply to the caller's INVITE", self.call.status, 503)
        see.that(self.took <= 3.0, f"the caller waited {self.took:.1f} s for it")
        see.notes.append(f"caller got {self.call.status} after {self.took:.2f} s")


class HoldByUpdate(Conversation):
    """FreeSWITCH answers UPDATE by itself; the edge must carry the hold to the other phone."""

    name = "hold_by_update"
    summary = "hold and unhold by UPDATE, which FreeSWITCH does not pass on: the other side falls silent all the same"
    statuses: list[int]
    held: tuple[float, float]

    async def during(self, lab: Lab) -> None:
        await trio.sleep(1.0)
        self.statuses = [await self.call.hold("UPDATE")]
        await trio.sleep(0.3)
        start = trio.current_time()
        await trio.sleep(1.0)
        self.held = (start, trio.current_time())
        self.statuses.append(await self.call.unhold("UPDATE"))
        await trio.sleep(0.3)
        self.started = trio.current_time()

    def check(self, see: Findings) -> None:
        super().check(see)
        see.equal("replies to the UPDATEs", self.statuses, [200, 200])
        see.silent("caller", self.call, *self.held, "while it held")


class ReinviteRefused(Conversation):
    """488 to a hold: the call stays as it was, and the other side can still change it."""

    name = "reinvite_refused"
    summary = "a hold is refused with 488: audio goes on, and the other side's hold works afterwards"
    refused: int
    other: list[int]
    between: tuple[float, float]
    held: tuple[float, float]

    async def during(self, lab: Lab) -> None:
        self.incoming.refuse_next = 488
        self.refused = await self.call.hold()
        start = trio.current_time()
        await trio.sleep(1.0)
        self.between = (start, trio.current_time())
        self.other = [await self.incoming.hold()]
        start = trio.current_time()
        await trio.sleep(1.0)
        self.held = (start, trio.current_time())
        self.other.append(await self.incoming.unhold())
        self.started = trio.current_time()

    def check(self, see: Findings) -> None:
        see.equal("reply to the hold", self.refused, 488)
        see.heard("caller", self.call, CALLEE_TONE, *self.between, "after the refusal")
        see.heard("callee", self.incoming, CALLER_TONE, *self.between, "after the refusal")
        see.equal("replies to the other side's hold and unhold", self.other, [200, 200])
        see.silent("callee", self.incoming, *self.held, "while it held")
        super().check(see)


class Glare(Conversation):
    """Both sides hold in the same moment."""

    name = "glare"
    summary = "both sides re-INVITE at once: 491 for one or both, a second try works, audio is back at the end"
    first: dict[str, int]
    second: list[int]

    async def during(self, lab: Lab) -> None:
        self.first = {}

        async def hold(call: Call, who: str) -> None:
            self.first[who] = await call.hold()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, self.call, "caller")
            nursery.start_soon(hold, self.incoming, "callee")
        await trio.sleep(0.3)
        self.second = []
        for call in (self.call, self.incoming):
            self.second.append(await call.unhold())
        self.started = trio.current_time()

    def check(self, see: Findings) -> None:
        statuses = sorted(self.first.values())
        see.that(set(statuses) <= {200, 491} and 491 in statuses, f"replies to the crossing re-INVITEs: {self.first}")
        see.equal("replies to the re-INVITEs after it", self.second, [200, 200])
        super().check(see)


class CancelCrossesAnswer(Scenario):
    """CANCEL and 200 pass each other, in small steps around the crossing."""

    name = "cancel_crosses_answer"
    summary = "CANCEL and 200 cross: whoever wins, both phones end and no media is left"
    timeout = 60.0

    def __init__(self) -> None:
        self.calls: list[tuple[OutgoingCall, IncomingCall]] = []

    async def run(self, lab: Lab) -> None:
        caller, callee = await lab.pair()
        for step in range(8):
            call = await caller.call(CALLEE)
            incoming = await invited(callee, call)
            incoming.ring()
            await within(call.ringing.wait, 5.0, "the caller never got the 180")
            incoming.answer()
            await trio.sleep(step * 0.004)
            await call.cancel()
            await within(call.done.wait, 5.0, "the caller never got a final reply")
            if call.status == 200:
                await hung_up(call, incoming)
            else:
                await within(
                    incoming.ended.wait, 5.0, f"caller got {call.status}, the callee's answered call never ended"
                )
            self.calls.append((call, incoming))

    def check(self, see: Findings) -> None:
        results = [call.status for call, _ in self.calls]
        see.that(set(results) <= {200, 487}, f"final replies to the caller: {results}")
        for _, incoming in self.calls:
            see.that(incoming.acked.is_set(), "a callee's 200 was never ACKed")
        see.notes.append(f"final replies: {results}")


class CancelEarlyMedia(Scenario):
    """The caller hears the announcement and gives up."""

    name = "cancel_early_media"
    summary = "CANCEL after early media: 487, the callee stops, media is given back"
    call: OutgoingCall
    incoming: IncomingCall
    early: tuple[float, float]

    async def run(self, lab: Lab) -> None:
        caller, callee = await lab.pair()
        self.call = await caller.call(CALLEE)
        self.incoming = await invited(callee, self.call)
        self.incoming.progress()
        await within(self.call.early.wait, 5.0, "the caller never got a 183 with SDP")
        start = trio.current_time()
        await trio.sleep(1.0)
        self.early = (start, trio.current_time())
        await self.call.cancel()
        await within(self.call.done.wait, 5.0, "the caller never got a final reply")
        await within(self.incoming.ended.wait, 3.0, "the callee's INVITE was never cancelled")

    def check(self, see: Findings) -> None:
        see.heard("caller", self.call, CALLEE_TONE, *self.early, "before the CANCEL")
        see.equal("final reply to the caller's INVITE", self.call.status, 487)
        see.equal("what ended the callee's call", self.incoming.ended_by, "CANCEL")


class ManyAtOnce(Scenario):
    """Several calls of the same two phones at the same time."""

    name = "many_at_once"
    summary = "eight calls at the same time: each hears its own peer and nobody else"
    timeout = 40.0
    count = 8

    def __init__(self) -> None:
        self.calls: list[tuple[OutgoingCall, IncomingCall]] = []
        self.span = (0.0, 0.0)

    async def run(self, lab: Lab) -> None:
        caller, callee = await lab.pair()
        calls = [await caller.call(CALLEE) for _ in range(self.count)]
        arrived = [await invited(callee, calls[0]) for _ in calls]
        for incoming in arrived:
            incoming.ring()
            incoming.answer()
        for call in calls:
            await within(call.done.wait, 8.0, "a caller never got a final reply")
            if call.status != 200:
                raise Failed(f"one of {self.count} callers got {call.status}")
        self.calls = _matched(calls, arrived)
        start = trio.current_time()
        await trio.sleep(2.0)
        self.span = (start, trio.current_time())
        for call, incoming in self.calls:
            await hung_up(call, incoming)

    def check(self, see: Findings) -> None:
        for call, incoming in self.calls:
            see.heard("caller", call, incoming.port.tone, *self.span)
            see.heard("callee", incoming, call.port.tone, *self.span)
            see.from_peer("caller", call, incoming)
            see.from_peer("callee", incoming, call)
        see.notes.insert(0, f"{len(self.calls)} calls, each with its own peer")


def _matched(calls: list[OutgoingCall], arrived: list[IncomingCall]) -> list[tuple[OutgoingCall, IncomingCall]]:
    """Which incoming call belongs to which: with `inbound-use-callid-as-uuid`, X-PGPX is the caller's Call-ID."""
    by_call_id = {incoming.invite.message.get("X-PGPX"): incoming for incoming in arrived}
    missing = [call.call_id for call in calls if call.call_id not in by_call_id]
    if missing:
        raise Failed(f"no leg B has X-PGPX {missing[0]}; there are {', '.join(by_call_id)}")
    return [(call, by_call_id[call.call_id]) for call in calls]
