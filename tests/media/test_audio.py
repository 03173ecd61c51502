"""Where the audio really goes: RTP through the real rtpengine after what the ladders show.

How it works. Every phone of the ladder, and FreeSWITCH, is a UDP socket on the address its SDP names. `heard_by` sends
a few RTP packets from one of them to the address it was shown last and tells which sockets get them.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio

from proxy.media.anchor import Leg
from proxy.sip.message import Response
from tests.media.ladder import Call, Stage, alice, bob, carol, establish, own_media, settle, where

pytestmark = pytest.mark.real
PLACES = {
    "alice": ("127.0.0.8", 30000),
    "bob": ("127.0.0.9", 40000),
    "carol": ("127.0.0.7", 50000),
    "fs-a": ("127.0.0.3", 18272),
    "fs-b": ("127.0.0.3", 17176),
    "alice-2": ("127.0.0.8", 30300),
}
TIME = 1.0
"""Seconds a packet may take; only a failing test waits this long."""


class Ears:
    """The sockets of everybody; RTP sequence numbers and SSRCs per speaker."""

    def __init__(self, sockets: dict[str, socket.socket]) -> None:
        self.sockets = sockets
        self.sequence = 100

    async def heard_by(self, speaker: str, at: tuple[str, int], listener: str) -> bool:
        """Whether what `speaker` sends to `at` reaches `listener`, within TIME, and nobody else."""
        ssrc = (list(self.sockets).index(speaker) + 1) * 1000
        mark = b"%-20d" % self.sequence
        with trio.move_on_after(TIME) as scope:
            while True:
                self.sequence += 1
                header = b"\x80\x00" + self.sequence.to_bytes(2, "big") + (self.sequence * 160).to_bytes(4, "big")
                self.sockets[speaker].sendto(header + ssrc.to_bytes(4, "big") + mark * 8, at)
                with trio.move_on_after(0.02):
                    await trio.lowlevel.wait_readable(self.sockets[listener])
                if self._got(listener, mark):
                    break
        others = [name for name in self.sockets if name != listener and self._got(name, mark)]
        assert others == [], f"{others} heard {speaker} too"
        return not scope.cancelled_caught

    def _got(self, name: str, mark: bytes) -> bool:
        found = False
        while True:
            try:
                found = mark in self.sockets[name].recv(2000) or found
            except BlockingIOError:
                return found


@contextmanager
def ears() -> Generator[Ears, None, None]:
    sockets: dict[str, socket.socket] = {}
    try:
        for name, place in PLACES.items():
            sock = sockets[name] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind(place)
        yield Ears(sockets)
    finally:
        for sock in sockets.values():
            sock.close()


@asynccontextmanager
async def on_real(address: str) -> AsyncGenerator[tuple[Stage, Ears], None]:
    with ears() as listeners:
        async with trio.open_nursery() as nursery:
            stage = Stage({"node1": address}, nursery)
            for client in stage.clients.values():
                await nursery.start(client.run)
            yield stage, listeners
            nursery.cancel_scope.cancel()


async def test_plain_call_hold_and_move(real_node: str) -> None:
    async with on_real(real_node) as (stage, all_ears):
        call = await establish(stage)
        to_alice, to_bob = call.to_alice, call.to_bob
        assert await all_ears.heard_by("alice", where(to_alice), "bob")
        assert await all_ears.heard_by("bob", where(to_bob), "alice")
        await call.reinvite("a", alice("sendonly", 2), bob("recvonly", 2))
        await call.reinvite("a", alice("sendrecv", 3), bob("sendrecv", 3))
        assert await all_ears.heard_by("alice", where(to_alice), "bob")
        assert await all_ears.heard_by("bob", where(to_bob), "alice")
        to_bob, to_alice = await call.reinvite("a", alice("sendrecv", 4, 30300), bob("sendrecv", 3))
        assert await all_ears.heard_by("alice-2", where(to_alice), "bob")
        assert await all_ears.heard_by("bob", where(to_bob), "alice-2")
        await call.hang_up()


async def test_a_refused_move_leaves_the_audio_where_it_was(real_node: str) -> None:
    async with on_real(real_node) as (stage, all_ears):
        call = await establish(stage)

        async def answer(leg: Leg, to_phone: bool, sdp: bytes) -> Response:
            response = call.a.message(b"SIP/2.0 200 OK", b"4 INVITE", stage.fs(call.to_freeswitch["b"]), False)
            assert isinstance(response, Response)
            return response

        stage.own.answer = answer
        first = await call.a.request(alice("sendrecv", 2, 30300), from_phone=True)
        second = await call.b.request(stage.fs(first.out), from_phone=False)
        await call.b.respond(second, 488)
        await call.a.respond(first, 488)
        await settle()
        assert await all_ears.heard_by("alice", where(call.to_alice), "bob")
        assert await all_ears.heard_by("bob", where(call.to_bob), "alice")
        await call.hang_up()


async def test_freeswitch_in_and_out(real_node: str) -> None:
    async with on_real(real_node) as (stage, all_ears):
        call = await establish(stage)
        for _ in range(2):
            in_a = await call.a.request(own_media(18272), from_phone=False)
            toward_a = await call.a.respond(in_a, 200, alice())
            in_b = await call.b.request(own_media(17176), from_phone=False)
            toward_b = await call.b.respond(in_b, 200, bob())
            assert await all_ears.heard_by("alice", where(in_a.out), "fs-a")
            assert await all_ears.heard_by("fs-a", where(toward_a), "alice")
            assert await all_ears.heard_by("bob", where(in_b.out), "fs-b")
            assert await all_ears.heard_by("fs-b", where(toward_b), "bob")
            out_b = await call.b.request(stage.fs(toward_a), from_phone=False)
            await call.b.respond(out_b, 200, bob())
            out_a = await call.a.request(stage.fs(toward_b), from_phone=False)
            await call.a.respond(out_a, 200, alice())
            assert await all_ears.heard_by("alice", where(out_a.out), "bob")
            assert await all_ears.heard_by("bob", where(out_b.out), "alice")
        await call.hang_up()


async def test_answer_then_bridge(real_node: str) -> None:
    async with on_real(real_node) as (stage, all_ears):
        a = stage.dialog("a")
        first = await a.request(alice(), from_phone=True)
        to_alice = await a.respond(first, 200, own_media(18272))
        stage.own.answered_with(a, own_media(18272))
        await a.ack(first)
        await stage.own.idle()
        told = stage.own.reinvites[0][2]
        assert await all_ears.heard_by("alice", where(to_alice), "fs-a")
        assert await all_ears.heard_by("fs-a", where(told), "alice")
        b = stage.dialog("b", from_freeswitch=True)
        second = await b.request(own_media(17176), from_phone=False)
        toward_b = await b.respond(second, 200, bob())
        await b.ack(second)
        assert await all_ears.heard_by("bob", where(second.out), "fs-b")
        assert await all_ears.heard_by("fs-b", where(toward_b), "bob")
        ask = await a.request(None, from_phone=False)
        offer = await a.respond(ask, 200, alice())
        bridged = await b.request(stage.fs(offer), from_phone=False)
        answer = await b.respond(bridged, 200, bob())
        shown = await a.ack(ask, stage.fs(answer))
        assert await all_ears.heard_by("alice", where(shown), "bob")
        assert await all_ears.heard_by("bob", where(bridged.out), "alice")
        call = Call(stage)
        call.a, call.b = a, b
        to_bob, to_alice = await call.reinvite("a", alice("sendrecv", 2), bob("sendrecv", 2))
        assert await all_ears.heard_by("alice", where(to_alice), "bob")
        assert await all_ears.heard_by("bob", where(to_bob), "alice")
        await call.hang_up()


async def test_voice_mail_after_busy(real_node: str) -> None:
    async with on_real(real_node) as (stage, all_ears):
        a = stage.dialog("a")
        first = await a.request(alice(), from_phone=True)
        b, second = await stage.second("b", stage.fs(first.out))
        await b.respond(second, 486)
        stage.anchor.branch_ended(b.leg)
        b.bye()
        shown = await a.respond(first, 200, own_media(18272))
        assert await all_ears.heard_by("alice", where(shown), "fs-a")
        assert await all_ears.heard_by("fs-a", where(first.out), "alice")
        a.bye()
        await settle()


async def test_pre_answer_then_bridge(real_node: str) -> None:
    async with on_real(real_node) as (stage, all_ears):
        a = stage.dialog("a")
        first = await a.request(alice(), from_phone=True)
        tone = await a.respond(first, 183, own_media(18272))
        assert await all_ears.heard_by("fs-a", where(first.out), "alice")
        b, second = await stage.second("b", stage.fs(first.out))
        back = await b.respond(second, 200, bob())
        shown = await a.respond(first, 200, stage.fs(back))
        assert await all_ears.heard_by("alice", where(shown), "bob")
        assert await all_ears.heard_by("bob", where(second.out), "alice")
        assert tone is not None
        a.bye()
        b.bye()
        await settle()


async def test_forks_and_the_winner(real_node: str) -> None:
    async with on_real(real_node) as (stage, all_ears):
        a = stage.dialog("a")
        first = await a.request(alice(), from_phone=True)
        b, to_b = await stage.second("b", stage.fs(first.out))
        c, to_c = await stage.second("c", stage.fs(first.out))
        early = await b.respond(to_b, 183, bob())
        heard = await a.respond(first, 183, stage.fs(early))
        assert await all_ears.heard_by("bob", where(to_b.out), "alice")
        assert await all_ears.heard_by("alice", where(heard), "bob")
        back = await c.respond(to_c, 200, carol())
        shown = await a.respond(first, 200, stage.fs(back))
        stage.anchor.branch_ended(b.leg)
        b.bye()
        await settle()
        assert await all_ears.heard_by("alice", where(shown), "carol")
        assert await all_ears.heard_by("carol", where(to_c.out), "alice")
        a.bye()
        c.bye()
        await settle()


async def test_late_offer(real_node: str) -> None:
    async with on_real(real_node) as (stage, all_ears):
        a = stage.dialog("a")
        empty = await a.request(None, from_phone=True)
        b = stage.dialog("b", from_freeswitch=True)
        second = await b.request(None, from_phone=False)
        offer = await b.respond(second, 200, bob())
        shown = await a.respond(empty, 200, stage.fs(offer))
        ack = await a.ack(empty, alice())
        through = await b.ack(second, stage.fs(ack))
        assert await all_ears.heard_by("alice", where(shown), "bob")
        assert await all_ears.heard_by("bob", where(through), "alice")
        a.bye()
        b.bye()
        await settle()


async def test_an_update_that_moves_a_port(real_node: str) -> None:
    async with on_real(real_node) as (stage, all_ears):
        call = await establish(stage)
        update = await call.a.request(alice("sendrecv", 2, 30300), from_phone=True, method="UPDATE")
        shown = await call.a.respond(update, 200, stage.fs(call.to_freeswitch["b"]))
        await settle()
        assert stage.own.reinvites == [], "bob is shown nothing new"
        assert await all_ears.heard_by("alice-2", where(shown), "bob")
        assert await all_ears.heard_by("bob", where(call.to_bob), "alice-2")
        await call.hang_up()


async def test_direct_call(real_node: str) -> None:
    async with on_real(real_node) as (stage, all_ears):
        a = stage.dialog("a", direct=True)
        one = await a.request(alice(), from_phone=True, branch=b"k1")
        two = await a.request(alice(), from_phone=True, branch=b"k2", cseq=one.message.cseq)
        shown = await a.respond(two, 200, carol())
        stage.anchor.branch_ended(a.leg, b"k1")
        await settle()
        assert await all_ears.heard_by("alice", where(shown), "carol")
        assert await all_ears.heard_by("carol", where(two.out), "alice")
        a.bye()
        await settle()


async def test_voice_mail_after_a_callee_with_early_media(real_node: str) -> None:
    """Its branch is deleted at once, so FreeSWITCH's port is a new one, and it is told by a re-INVITE of ours."""
    async with on_real(real_node) as (stage, all_ears):
        a = stage.dialog("a")
        stage.own.answered_with(a, own_media(18272))
        first = await a.request(alice(), from_phone=True)
        b, second = await stage.second("b", stage.fs(first.out))
        await a.respond(first, 183, stage.fs(await b.respond(second, 183, bob())))
        await b.respond(second, 480)
        stage.anchor.branch_ended(b.leg)
        b.bye()
        await settle()
        shown = await a.respond(first, 200, own_media(18272))
        await a.ack(first)
        await stage.own.idle()
        assert await all_ears.heard_by("alice", where(shown), "fs-a")
        assert await all_ears.heard_by("fs-a", where(stage.own.reinvites[0][2]), "alice")
        a.bye()
        await settle()


async def test_a_phone_behind_nat(real_node: str) -> None:
    """Its SDP names a private address and a wrong port; the first packet shows the right ones."""
    async with on_real(real_node) as (stage, all_ears):
        hidden = alice().replace(b"127.0.0.8", b"192.168.1.5").replace(b"30000", b"31000")
        call = await establish(stage, hidden, bob(), nat=True)
        assert await all_ears.heard_by("alice", where(call.to_alice), "bob")
        assert await all_ears.heard_by("bob", where(call.to_bob), "alice")
        to_alice, to_bob = await call.reinvite("b", bob("sendrecv", 2), hidden)
        assert await all_ears.heard_by("alice", where(to_alice), "bob")
        assert await all_ears.heard_by("bob", where(to_bob), "alice")
        await call.hang_up()
