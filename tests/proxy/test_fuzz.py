"""Hostile and broken input, and a terrible network: nothing raises, nothing is lost, nothing is stuck.

How it works: `test_mutated_messages` damages valid messages of every kind at random (seeded) and puts them before a
whole edge, in dialogs and outside. `test_a_terrible_network` runs real calls between phones and a FreeSWITCH that
answer, cancel, hold and hang up at random, over a network that loses, doubles and reorders datagrams; afterwards every
transaction, dialog, session and ng call has to be gone.
"""

from __future__ import annotations

import random

import pytest
import trio

from lab.sip import Message, SipError
from tests.ladders.flows import answered
from tests.media.ladder import alice, bob
from tests.world import Packet, Party, World, open_world, settle

PIECES = [
    b"", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b",", b";", b":", b"<", b">", b'"', b"=", b"@",
    b"\xff\xfe", b" ", b"\t",
    b"sip:", b"Via: ", b"a" * 3000, b"%00", b"-1", b"99999999999999999999", b"[::1]", b"SIP/2.0", b";lr", b"*", b"tag=",
    b"\r\nContact: *", b"\r\nRoute: <sip:198.51.100.1;lr>", b"\r\nContent-Length: 4", b"\r\nTo: x",
    b"alias=1~2~3", b"\r\n ",
]  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to four random changes: a byte, a piece put in, cut out, doubled, a line moved."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1) if data else 0
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + rng.choice(PIECES) + data[at:]
        elif kind == 2:
            data = data[:at] + data[at + rng.randint(1, 40) :]
        elif kind == 3:
            data = data[:at] + data[at : at + rng.randint(1, 60)] + data[at:]
        elif kind == 4:
            lines = data.split(b"\r\n")
            rng.shuffle(lines)
            data = b"\r\n".join(lines)
        else:
            data = data[:at]
    return data


@pytest.mark.parametrize("seed", range(4))
async def test_mutated_messages(autojump_clock: object, seed: int) -> None:
    rng = random.Random(seed)
    async with open_world(node=True) as world:
        ladder = await answered(world)
        caller, fs, callee = (world.parties[name] for name in ("caller", "fs", "callee"))
        a, b = ladder.names["A"], ladder.names["B"]
        for number in range(250):
            new = f"f{number}@test"
            samples = [
                ("caller", caller.request(new, "INVITE", "sip:1000@198.51.100.1", alice())),
                ("caller", caller.request(new, "REGISTER", "sip:example.test")),
                ("stranger", caller.request(new, "OPTIONS", "sip:198.51.100.1")),
                ("fs", fs.request(new, "INVITE", "sip:1000@10.0.0.1:5080", bob())),
                ("caller", caller.request(a, "INFO")),
                ("caller", caller.request(a, "INVITE", "", alice())),
                ("callee", callee.request(b, "UPDATE", "", bob())),
                ("callee", callee.response(b, 200, sdp=bob())),
                ("fs", fs.response(a, 183, method="INVITE", sdp=bob())),
            ]  # fmt: skip
            sender, message = rng.choice(samples)
            world.inject(sender, mutated(message.encode(), rng))
            if number % 10 == 0:
                await settle()
        await settle()
        assert world.stats["bad_messages"] > 20
        world.take()
        world.raw.clear()
        await trio.sleep(200)  # what was not answered has run into its timers
        world.take()
        world.raw.clear()
        for leg in list(world.edge._sessions()):
            await world.edge.supervisor.hangup(leg, b"SIP;cause=480")
        await trio.sleep(70)
        world.take()
        world.raw.clear()
        assert list(world.leftovers()) == []


async def test_every_prefix_of_a_message(autojump_clock: object) -> None:
    """A truncated datagram, cut anywhere, and one with anything behind it."""
    async with open_world() as world:
        invite = world.parties["caller"].request("x@test", "INVITE", "sip:1000@198.51.100.1", alice()).encode()
        for end in range(len(invite)):
            world.inject("caller", invite[:end])
        await settle()
        world.take()
        world.raw.clear()
        await trio.sleep(70)
        world.take()
        world.raw.clear()
        assert list(world.leftovers()) == []


class Chaos:
    """A network and the people on it. Every datagram may be lost, doubled or late."""

    def __init__(self, world: World, rng: random.Random, loss: float) -> None:
        self.world = world
        self.rng = rng
        self.loss = loss
        self.seen = 0
        self.answered = 0
        self.number = 0

    def deliver(self, party: str, data: bytes) -> None:
        """From a party to the edge, over the network."""
        for _ in range(2 if self.rng.random() < 0.1 else 1):
            if self.rng.random() >= self.loss:
                self.world.nursery.start_soon(self._later, party, data)

    async def _later(self, party: str, data: bytes) -> None:
        await trio.sleep(self.rng.choice((0.0, 0.0, 0.01, 0.05, 0.7)))
        self.world.inject(party, data)

    def send(self, party: Party, message: Message) -> None:
        """A party sends, and remembers that it did."""
        call = party.call(message.call_id)
        if not message.status:
            call.sent[message.method] = message
        self.deliver(party.name, message.encode())

    async def call(self) -> None:
        """One caller: INVITE with retransmissions, then whatever comes; hangs up or cancels sooner or later."""
        rng, world = self.rng, self.world
        party = world.parties["caller"]
        self.number += 1
        call_id = f"c{self.number}@test"
        invite = party.request(call_id, "INVITE", "sip:1000@198.51.100.1", alice())
        self.send(party, invite)
        call = party.call(call_id)
        patience = rng.choice((0.3, 3.0, 40.0))
        for wait in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0):
            await trio.sleep(min(wait, patience))
            if "INVITE" in call.replies and call.replies["INVITE"].status >= 200:
                break
            self.deliver("caller", invite.encode())
            if wait >= patience:
                break
        reply = call.replies.get("INVITE")
        if reply is None or reply.status < 200:
            cancel = party._follow(call, "CANCEL", invite["To"])
            for _ in range(4):
                self.deliver("caller", cancel.encode())
                await trio.sleep(1.0)
            return
        if reply.status < 300 and call.dialog is not None:
            await trio.sleep(rng.choice((0.1, 5.0, 20.0)))
            bye = party.request(call_id, "BYE")
            for _ in range(rng.choice((0, 6, 6))):  # some vanish without a word
                self.deliver("caller", bye.encode())
                await trio.sleep(1.0)

    async def people(self) -> None:
        """Everybody reacts to what the edge sends; for ever."""
        while True:
            await trio.sleep(0.02)
            for packet in self.world.wire[self.seen :]:
                if self.rng.random() >= self.loss:
                    self._react(packet)
            self.seen = len(self.world.wire)

    def _react(self, packet: Packet) -> None:
        party = self.world.parties.get(packet.to)
        message = packet.message
        if party is None:
            return
        if message.status:
            self._on_response(party, message)
        elif message.method == "INVITE":
            self._on_invite(party, message)
        elif message.method == "CANCEL":
            self.deliver(party.name, message.response(200, tag="x").encode())
            invite = party.call(message.call_id).got.get("INVITE")
            if invite is not None and self.rng.random() < 0.9:
                self.deliver(party.name, invite.response(487, tag=party.call(message.call_id).tag).encode())
        elif message.method != "ACK":
            self.deliver(party.name, message.response(self.rng.choice((200, 200, 481)), tag="x").encode())
            if message.method == "BYE" and party.name == "fs":
                self._other_leg(party, message.call_id)

    def _on_response(self, party: Party, message: Message) -> None:
        call = party.call(message.call_id)
        if message.cseq[1] == "INVITE" and message.status >= 200 and "INVITE" in call.sent:
            try:
                if message.status < 300:
                    self.deliver(party.name, party.request(message.call_id, "ACK").encode())
                else:
                    self.deliver(party.name, party._follow(call, "ACK", message["To"]).encode())
            except (KeyError, SipError):
                return

    def _on_invite(self, party: Party, message: Message) -> None:
        rng = self.rng
        call = party.call(message.call_id)
        sdp = bob() if rng.random() < 0.9 else b"garbage"
        if party.name == "fs" and not message.to.tag and rng.random() < 0.8:
            leg_b = f"B-{message.call_id}"
            if leg_b not in party.calls:  # and again in leg B, as FreeSWITCH does
                self.deliver("fs", message.response(100).encode())
                invite = party.request(leg_b, "INVITE", "sip:1000@10.0.0.1:5080", party.reprint(message.body))
                self.send(party, invite)
        elif rng.random() < 0.5:
            self.deliver(party.name, message.response(180, tag=call.tag, contact=party.contact).encode())
        if rng.random() < 0.7:
            code = rng.choice((200, 200, 200, 486, 302, 503, 603))
            body = sdp.decode() if code == 200 else ""
            reply = message.response(code, tag=call.tag, contact=party.contact if code == 200 else "", sdp=body)
            for _ in range(3):
                self.deliver(party.name, reply.encode())
            self.answered += code == 200

    def _other_leg(self, party: Party, call_id: str) -> None:
        other = party.calls.get(f"B-{call_id}")
        if other is not None and other.dialog is not None:
            self.send(party, party.request(other.call_id, "BYE"))


@pytest.mark.parametrize(("seed", "loss"), [(1, 0.0), (2, 0.1), (3, 0.3), (4, 0.6)])
async def test_a_terrible_network(autojump_clock: object, seed: int, loss: float) -> None:
    async with open_world(node=True) as world:
        chaos = Chaos(world, random.Random(seed), loss)
        world.nursery.start_soon(chaos.people)
        for _ in range(30):
            world.nursery.start_soon(chaos.call)
            await trio.sleep(chaos.rng.random())
        await trio.sleep(200)
        for session in list(world.edge._sessions()):  # calls whose parties both vanished: the sampler would find them
            await world.edge.supervisor.hangup(session, b"SIP;cause=408")
        await trio.sleep(100)
        assert chaos.answered > 1  # of 30: trio's order of tasks decides which datagrams are lost
        assert list(world.leftovers()) == []
        assert not [alarm for alarm in world.edge.core._alarms if alarm[0] < trio.current_time()]
        assert world.edge.service.strangers.total() == 0
