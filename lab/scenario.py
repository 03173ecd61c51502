"""What a scenario is, and how it is judged.

Theory of operation. A `Scenario` states its network (`shape`), its edge settings, and two things to do: `run` plays
the story with phones and notes times on itself, `check` then looks at what the phones received (packets, tones, SIP
results) and reports to `Findings`. Log lines are never read. `Findings` keeps every problem; the first is the
one-line reason. `Failed` ends a story that cannot go on. `Lab` is the running set of parts a story works with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import trio

from lab.call import Call, IncomingCall, OutgoingCall
from lab.process import Daemon
from lab.proxy import Edge, EdgeSettings
from lab.rtp import TONES
from lab.rtpengine import Node
from lab.sip_socket import NoAnswer
from lab.switch import Kind, Switch
from lab.topology import EDGE_PUBLIC, Network, Shape
from lab.ua import Phone, open_phone

CALLER, CALLEE = "2000", "1000"
"""The users: who calls and who is called."""
CALLER_TONE, CALLEE_TONE, SECOND_BRANCH_TONE = TONES[0], TONES[1], TONES[2]
SLACK = 0.15
"""Seconds around a change in which audio is not judged: SIP and one packet are still on their way."""


class Failed(Exception):
    """The story cannot go on; the text is the verdict's reason."""


@dataclass
class Findings:
    """What a check found. `problems` decide; `notes` are told with a PASS."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    media_addresses: frozenset[str] = frozenset({EDGE_PUBLIC})
    """Where phones' RTP may come from: the public addresses of the rtpengines."""
    timed: bool = True
    """Whether limits of time count. A run of everything is a test, which must not depend on what else the machine does:
    there they are told in the notes."""

    def that(self, truth: bool, otherwise: str) -> None:
        """`otherwise` is the problem when `truth` does not hold."""
        if not truth:
            self.problems.append(otherwise)

    def in_time(self, truth: bool, otherwise: str) -> None:
        """Like `that`, for a limit of time."""
        if self.timed:
            self.that(truth, otherwise)
        elif not truth:
            self.notes.append(f"not judged here: {otherwise}")

    def equal(self, what: str, got: object, wanted: object) -> None:
        """`got` must be `wanted`."""
        self.that(got == wanted, f"{what}: got {got!r}, expected {wanted!r}")

    def heard(self, who: str, call: Call, tone: int, since: float, until: float, when: str = "") -> None:
        """`call` must have heard `tone` nearly all the time in [since, until), bar SLACK at the start, from
        rtpengine alone."""
        since += SLACK
        wanted = until - since
        seconds = call.hearing.seconds(tone, since, until)
        told = f"{who} heard {tone} Hz for {seconds:.2f} s of {wanted:.2f} s{' ' + when if when else ''}"
        self.that(seconds >= 0.9 * wanted - 0.04, told + self._instead(call, since, until))
        self.notes.append(told)
        sources = call.hearing.sources(since, until)
        strangers = {f"{ip}:{port}" for ip, port in sources if ip not in self.media_addresses}
        self.that(not strangers, f"{who} got media past rtpengine, from {', '.join(sorted(strangers))}")

    def from_peer(self, who: str, call: Call, peer: Call) -> None:
        """Every RTP packet `call` received was sent by `peer` (rtpengine keeps the SSRC): nobody else's audio came
        in."""
        foreign = {packet.ssrc for packet in call.hearing.packets} - {peer.port.ssrc}
        self.that(not foreign, f"{who} received RTP of {len(foreign)} other source(s): another call's audio")

    def from_node(self, who: str, call: Call, address: str, since: float, until: float, when: str) -> None:
        """All RTP `call` received in [since + SLACK, until) came from that one address."""
        found = {ip for ip, _ in call.hearing.sources(since + SLACK, until)}
        self.that(
            found == {address}, f"{who}'s RTP {when} comes from {', '.join(sorted(found)) or 'nowhere'}, not {address}"
        )

    def silent(self, who: str, call: Call, since: float, until: float, when: str) -> None:
        """`call` must have received no audio at all in [since + SLACK, until)."""
        count = call.hearing.count(since + SLACK, until)
        self.that(count == 0, f"{who} received {count} packets {when}{self._instead(call, since + SLACK, until)}")

    def once(self, who: str, call: Call) -> None:
        """No loop: `call` never heard itself and no packet twice."""
        own = call.hearing.seconds(call.port.tone)
        self.that(own == 0, f"{who} heard its own tone for {own:.2f} s: media loops")
        repeated = call.hearing.repeated()
        self.that(repeated == 0, f"{who} received {repeated} packets more than once: media is relayed twice")

    def one_origin(self, who: str, call: Call) -> None:
        """Every SDP `call` received had the same o= session id, and its version never fell (RFC 3264 8)."""
        sessions = {session for session, _ in call.origins}
        self.that(len(sessions) <= 1, f"{who} saw the o= session id change: {', '.join(sorted(sessions))}")
        versions = [version for _, version in call.origins]
        self.that(versions == sorted(versions), f"{who} saw the o= version fall: {versions}")

    @staticmethod
    def _instead(call: Call, since: float, until: float) -> str:
        tones = {packet.tone for packet in call.hearing.between(since, until)}
        said = ", ".join("silence" if t == 0 else "noise" if t < 0 else f"{t} Hz" for t in sorted(tones))
        return f" (received {call.hearing.count(since, until)} packets: {said or 'nothing'}; sent {call.port.sent})"


@dataclass
class Lab:
    """The parts of a running scenario. Phones are opened with `phone` and closed with the lab."""

    network: Network
    folder: Path
    nodes: list[Node]
    switches: list[Switch]
    edge: Edge
    nursery: trio.Nursery

    @property
    def daemons(self) -> list[Daemon]:
        """Everything that must still be alive at the end."""
        return [self.edge.daemon, *(node.daemon for node in self.nodes), *(switch.daemon for switch in self.switches)]

    async def phone(self, role: str, user: str, *tones: int) -> Phone:
        """A phone on the host `role`."""
        phone: Phone = await self.nursery.start(self._keep_phone, role, user, tones)
        return phone

    async def _keep_phone(
        self, role: str, user: str, tones: tuple[int, ...], *, task_status: trio.TaskStatus[Phone]
    ) -> None:
        # a task of its own: the phone's nursery must not end up inside the time limit of the story that opens it
        async with open_phone(self.network, role, user, tones) as phone:
            task_status.started(phone)
            try:
                await trio.sleep_forever()
            finally:
                (self.folder / f"{role}.sip.txt").write_text(transcript(phone), encoding="utf-8")

    async def pair(self, *, register: bool = True) -> tuple[Phone, Phone]:
        """Caller 2000 and callee 1000, both registered unless told otherwise."""
        caller = await self.phone("caller", CALLER, CALLER_TONE)
        callee = await self.phone("callee", CALLEE, CALLEE_TONE, SECOND_BRANCH_TONE)
        if register:
            for phone in (caller, callee):
                await registered(phone)
        return caller, callee


class Scenario(ABC):
    """One story. A new instance is made for every run."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line."""
    shape: ClassVar[Shape] = Shape()
    settings: ClassVar[EdgeSettings] = EdgeSettings()
    timeout: ClassVar[float] = 30.0
    """Seconds `run` may take."""
    settle: ClassVar[float] = 2.0
    """Seconds the edge has after it to delete media and sessions."""
    alone: ClassVar[bool] = False
    """Whether nothing may run beside it, because it measures times."""
    captured: ClassVar[bool] = True
    """Whether the edge's packets are captured; it costs a process wake-up for each."""
    kinds: ClassVar[tuple[Kind, ...]] = tuple(Kind)
    """The B2BUAs it is played with."""
    node_arguments: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """More command line of the first, second... rtpengine: `(("--max-sessions=2",),)`."""

    @abstractmethod
    async def run(self, lab: Lab) -> None:
        """Play it. Raises Failed."""

    @abstractmethod
    def check(self, see: Findings) -> None:
        """Judge it."""


def transcript(phone: Phone) -> str:
    """What the phone sent and received, datagram by datagram, as the phone saw it (the capture shows the edge's
    side)."""
    start = phone.sip.log[0][0] if phone.sip.log else 0.0
    return "".join(
        f"{at - start:9.3f} s {'to  ' if sent else 'from'} {peer[0]}:{peer[1]}\n{data.decode('utf-8', 'replace')}\n"
        for at, sent, peer, data in phone.sip.log
    )


async def registered(phone: Phone) -> None:
    """REGISTER and insist on 200. Raises Failed."""
    try:
        reply = await phone.register()
    except NoAnswer:
        raise Failed(f"{phone.name} could not register: no answer in 32 s") from None
    if reply.status != 200:
        raise Failed(f"{phone.name} could not register: {reply.status} {reply.reason}")


async def invited(callee: Phone, call: OutgoingCall, seconds: float = 8.0) -> IncomingCall:
    """The call as it reaches the callee. Raises Failed with what the caller got instead."""
    incoming = await callee.next_call(seconds)
    if incoming is None:
        got = (
            f"the caller got {call.final.status} {call.final.reason}" if call.final else "the caller got no final reply"
        )
        raise Failed(f"no INVITE reached the callee within {seconds:g} s; {got}")
    return incoming


async def answered(call: OutgoingCall, incoming: IncomingCall, seconds: float = 5.0) -> None:
    """Answer, and wait until the caller has the 200 and the callee the ACK. Raises Failed."""
    incoming.answer()
    with trio.move_on_after(seconds):
        await call.done.wait()
        await incoming.acked.wait()
    if call.status != 200:
        raise Failed(f"the callee answered 200, the caller got {call.status or 'nothing'} within {seconds:g} s")
    if not incoming.acked.is_set():
        raise Failed(f"the callee's 200 was not ACKed within {seconds:g} s")


async def connected(lab: Lab, *, register: bool = True) -> tuple[OutgoingCall, IncomingCall]:
    """The ordinary start: 2000 calls 1000, it rings, it answers. Raises Failed."""
    return await dial(*await lab.pair(register=register))


async def dial(caller: Phone, callee: Phone) -> tuple[OutgoingCall, IncomingCall]:
    """Another call of 2000 to 1000: it rings, it answers. Raises Failed."""
    call = await caller.call(CALLEE)
    incoming = await invited(callee, call)
    incoming.ring()
    await within(call.ringing.wait, 5.0, "the caller never got the 180")
    await answered(call, incoming)
    return call, incoming


async def within(wait: Callable[[], Awaitable[object]], seconds: float, otherwise: str) -> None:
    """Await `wait()`. Raises Failed with `otherwise` when it takes longer than `seconds`."""
    with trio.move_on_after(seconds):
        await wait()
        return
    raise Failed(f"{otherwise} (waited {seconds:g} s)")


async def hung_up(first: Call, second: Call, seconds: float = 4.0) -> None:
    """`first` says BYE; both ends must be done with it. Raises Failed."""
    status = await first.bye()
    if status != 200:
        raise Failed(f"BYE of the {first.phone.name} was answered {status}")
    await within(second.ended.wait, seconds, f"the {second.phone.name} never got the BYE")
