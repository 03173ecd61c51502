"""Calls that are answered and talk: plain, through NAT, with early media, with the offer in the 200."""

from __future__ import annotations

import json
from typing import Any

import trio

from lab.call import IncomingCall, OutgoingCall
from lab.nat import Nat
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
    connected,
    hung_up,
    invited,
    within,
)
from lab.topology import Shape

LOOK_AFTER = 2.4
"""Seconds into a call when `mediactl` is asked: by then the edge, told to sample every second, has asked the node
once."""

RING_FOR = 0.5
"""Seconds a phone rings whose 180 nobody waits for."""


class Conversation(Scenario):
    """Base: a call, `talk` seconds of audio both ways, the caller hangs up."""

    talk = 2.0
    register = True
    call: OutgoingCall
    incoming: IncomingCall
    started: float
    stopped: float

    async def run(self, lab: Lab) -> None:
        self.call, self.incoming = await connected(lab, register=self.register)
        self.started = trio.current_time()
        await self.during(lab)
        await trio.sleep_until(self.started + self.talk)
        self.stopped = trio.current_time()
        await hung_up(self.call, self.incoming)

    async def during(self, lab: Lab) -> None:
        """What else happens while they talk."""

    def check(self, see: Findings) -> None:
        see.heard("caller", self.call, CALLEE_TONE, self.started, self.stopped)
        see.heard("callee", self.incoming, CALLER_TONE, self.started, self.stopped)
        for who, call in (("caller", self.call), ("callee", self.incoming)):
            see.once(who, call)
            see.one_origin(who, call)


class PlainCall(Conversation):
    """No NAT, the callee from a static entry; `mediactl` is asked in the middle."""

    name = "plain_call"
    summary = "no NAT, static callee: audio both ways, `mediactl ls` shows both legs and packets"
    shape = Shape()
    settings = EdgeSettings(users={CALLEE: f"sip:{CALLEE}@203.0.113.9:5060"})
    register = False
    talk = 3.0
    listed: list[dict[str, Any]]
    anchored: list[str]

    async def during(self, lab: Lab) -> None:
        await trio.sleep(LOOK_AFTER)
        self.listed = _rows(json.loads(await lab.edge.mediactl("ls", "--json")))
        self.anchored = await lab.nodes[0].live_calls()

    def check(self, see: Findings) -> None:
        super().check(see)
        see.equal("sessions in `mediactl ls --json` during the call", len(self.listed), 1)
        if len(self.listed) != 1:
            return
        row = self.listed[0]
        for leg in (self.call.call_id, self.incoming.call_id):
            see.that(leg in row["call_ids"], f"`mediactl ls` does not show Call-ID {leg} but {row['call_ids']}")
        see.equal("calls on rtpengine during the call", self.anchored, [row["id"]])
        see.that(self.call.call_id != self.incoming.call_id, "both legs have one Call-ID: no B2BUA was in the path")
        for side in ("caller", "callee"):
            count = row["packets"].get(side) or 0
            see.that(count > 0, f"`mediactl ls` shows {count} packets from the {side} after {LOOK_AFTER} s of audio")


def _rows(parsed: Any) -> list[dict[str, Any]]:
    if isinstance(parsed, dict):
        parsed = parsed.get("sessions", parsed)
    if not isinstance(parsed, list):
        raise Failed(f"`mediactl ls --json` is not a list of sessions: {str(parsed)[:120]}")
    return parsed


class NatCaller(Conversation):
    """The caller behind a port-restricted NAT."""

    name = "nat_caller"
    summary = "caller behind a port-restricted NAT, both registered: audio both ways"
    shape = Shape(caller_nat=Nat.PORT_RESTRICTED)


class NatBoth(Conversation):
    """Both behind NAT, one of them symmetric, both with the same private address; the callee hangs up through its
    NAT."""

    name = "nat_both"
    summary = "caller behind a symmetric, callee behind a port-restricted NAT: audio both ways, callee hangs up"
    shape = Shape(caller_nat=Nat.SYMMETRIC, callee_nat=Nat.PORT_RESTRICTED)

    async def run(self, lab: Lab) -> None:
        self.call, self.incoming = await connected(lab)
        self.started = trio.current_time()
        await trio.sleep(self.talk)
        self.stopped = trio.current_time()
        await hung_up(self.incoming, self.call)


class EarlyMedia(Conversation):
    """183 with SDP: the callee's announcement is heard before the 200."""

    name = "early_media"
    summary = "183 with SDP: the callee is heard before its 200, both after it"
    early_from: float
    early_until: float

    async def run(self, lab: Lab) -> None:
        caller, callee = await lab.pair()
        self.call = await caller.call(CALLEE)
        self.incoming = await invited(callee, self.call)
        self.incoming.progress()
        await within(self.call.early.wait, 5.0, "the caller never got a 183 with SDP")
        self.early_from = trio.current_time()
        await trio.sleep(1.5)
        self.early_until = trio.current_time()
        await answered(self.call, self.incoming)
        self.started = trio.current_time()
        await trio.sleep(self.talk)
        self.stopped = trio.current_time()
        await hung_up(self.call, self.incoming)

    def check(self, see: Findings) -> None:
        see.heard("caller", self.call, CALLEE_TONE, self.early_from, self.early_until, "before the 200")
        super().check(see)


class LateOffer(Conversation):
    """INVITE without SDP: the offer comes in the 200, the answer goes in the ACK."""

    rang: bool
    name = "late_offer"
    summary = "INVITE without SDP, offer in the 200, answer in the ACK: audio both ways"

    async def run(self, lab: Lab) -> None:
        caller, callee = await lab.pair()
        self.call = await caller.call(CALLEE, late_offer=True)
        self.incoming = await invited(callee, self.call)
        if self.incoming.invite.message.sdp:
            raise Failed("the callee got an INVITE with SDP although the caller sent none")
        self.incoming.ring()
        await trio.sleep(RING_FOR)  # FreeSWITCH 1.10.12 with enable-3pcc=proxy does not pass the 180 of a late offer on
        self.rang = self.call.ringing.is_set()
        await answered(self.call, self.incoming)
        await within(self.incoming.media.wait, 3.0, "the callee's ACK brought no answer SDP")
        self.started = trio.current_time()
        await trio.sleep(self.talk)
        self.stopped = trio.current_time()
        await hung_up(self.call, self.incoming)

    def check(self, see: Findings) -> None:
        super().check(see)
        see.notes.append(f"the 180 {'reached' if self.rang else 'did not reach'} the caller")
