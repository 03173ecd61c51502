"""Random lives of calls: whatever the phones and FreeSWITCH do, the rules hold (seeds fixed).

How it works. A call is set up and lives through a random sequence of what traces q3, q5, q7 and q9 show: holds and port
moves from either side, refusals, glare, UPDATE, refreshes, re-INVITEs without SDP, FreeSWITCH stepping in and out.
After each step every SDP that anybody was shown is checked (`Stage.check_shown`), then the two phones are put together
by a last re-INVITE and have to be associated with each other in rtpengine.
"""

from __future__ import annotations

import random

import pytest
import trio

from proxy.media.session import Leg
from proxy.sip.message import Response
from tests.media.ladder import Call, Dialog, Stage, Transaction, alice, bob, crypto, establish, own_media, settle, way

WAYS = ("sendrecv", "sendonly", "recvonly", "inactive")
BACK = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}


class Life:
    """A call and the steps it can take; FreeSWITCH gets directions wrong now and then."""

    def __init__(self, stage: Stage, call: Call, rng: random.Random, *, secure: bool) -> None:
        self.stage = stage
        self.call = call
        self.rng = rng
        self.secure = secure
        self.version = 1
        self.ports = {"a": 30000, "b": 40000}
        self.inside: tuple[bytes, bytes] | None = None
        stage.own.answer = self.answer_ours

    def sdp(self, who: str, direction: str = "sendrecv") -> bytes:
        self.version += 1
        if who == "a":
            made = alice(direction, self.version, self.ports["a"])
            return crypto(made) if self.secure else made
        return bob(direction, self.version, self.ports["b"])

    def dialog(self, who: str) -> Dialog:
        return self.call.a if who == "a" else self.call.b

    async def answer_ours(self, leg: Leg, to_phone: bool, sdp: bytes) -> Response:
        """A re-INVITE of ours: a phone answers it, or FreeSWITCH, after a refresh of the other leg."""
        who = "a" if leg is self.call.a.leg else "b"
        near, far = self.dialog(who), self.dialog("b" if who == "a" else "a")
        if to_phone:
            near.shown(sdp, True)
            response = near.message(b"SIP/2.0 200 OK", b"9 INVITE", self.sdp(who, BACK[way(sdp)]), True)
        else:
            near.shown(sdp, False)
            refresh = await far.request(self.stage.fs(sdp), from_phone=False)
            if refresh.refusal is None:
                await far.respond(refresh, 200, far.leg.phone.original)
            response = near.message(b"SIP/2.0 200 OK", b"9 INVITE", self.stage.fs(sdp), False)
        assert isinstance(response, Response)
        return response

    async def step(self) -> None:
        inside = (self.hold_inside, self.step_out)
        outside = (
            self.reinvite,
            self.reinvite,
            self.refused,
            self.glare,
            self.update,
            self.refresh,
            self.late,
            self.step_in,
        )
        await self.rng.choice(inside if self.inside else outside)()
        await settle()
        self.stage.check_shown()

    async def reinvite(self) -> None:
        who = self.rng.choice("ab")
        if self.rng.random() < 0.3:
            self.ports[who] += 2
        direction = self.rng.choice(WAYS)
        wrong = self.rng.choice((None, None, *WAYS))
        other = "b" if who == "a" else "a"
        offer, answer = self.sdp(who, direction), self.sdp(other, BACK[direction])
        shown, back = await self.call.reinvite(who, offer, answer, fs_offer=wrong, fs_answer=wrong)
        assert (way(shown), way(back)) == (direction, BACK[direction]), "phones hear each other's real direction"

    async def refused(self) -> None:
        who = self.rng.choice("ab")
        near, far = self.dialog(who), self.dialog("b" if who == "a" else "a")
        agreed = near.leg.phone.original, far.leg.phone.original
        first = await near.request(self.sdp(who, "inactive"), from_phone=True)
        second = await far.request(self.stage.fs(first.out), from_phone=False)
        code = self.rng.choice((488, 603, 491, 408))
        await far.respond(second, code)
        await near.respond(first, code)
        await settle()
        assert (near.leg.phone.original, far.leg.phone.original) == agreed

    async def glare(self) -> None:
        who = self.rng.choice("ab")
        near, far = self.dialog(who), self.dialog("b" if who == "a" else "a")
        first = await near.request(self.sdp(who), from_phone=True)
        before = len(self.stage.log)
        other = await far.request(self.sdp("b" if who == "a" else "a"), from_phone=True)
        assert other.refusal is not None and other.refusal.code == 491 and len(self.stage.log) == before
        second = await far.request(self.stage.fs(first.out), from_phone=False)
        back = await far.respond(second, 200, self.sdp("b" if who == "a" else "a"))
        await near.respond(first, 200, self.stage.fs(back))

    async def update(self) -> None:
        who = self.rng.choice("ab")
        near, far = self.dialog(who), self.dialog("b" if who == "a" else "a")
        direction = self.rng.choice(WAYS)
        stored = self.stage.shown[(far.call_id, "freeswitch")][-1]
        update = await near.request(self.sdp(who, direction), from_phone=True, method="UPDATE")
        shown = await near.respond(update, 200, self.stage.fs(stored, BACK[direction]))
        assert way(shown) == BACK[direction]

    async def refresh(self) -> None:
        """FreeSWITCH's session timer, with the peer's stored SDP and the direction the phone has agreed to."""
        who = self.rng.choice("ab")
        near, far = self.dialog(who), self.dialog("b" if who == "a" else "a")
        stored = self.stage.shown[(far.call_id, "freeswitch")][-1]
        heard = near.leg.phone.heard
        assert heard is not None
        before = len(self.stage.log)
        refresh = await near.request(self.stage.fs(stored, heard.direction), from_phone=False)
        await near.respond(refresh, 200, near.leg.phone.original)
        assert len(self.stage.log) == before

    async def late(self) -> None:
        who = self.rng.choice("ab")
        other = "b" if who == "a" else "a"
        near, far = self.dialog(who), self.dialog(other)
        empty = await near.request(None, from_phone=True)
        relayed = await far.request(None, from_phone=False)
        offer = await far.respond(relayed, 200, self.sdp(other))
        await near.respond(empty, 200, self.stage.fs(offer))
        answer = await near.ack(empty, self.sdp(who))
        await far.ack(relayed, self.stage.fs(answer))

    async def step_in(self) -> None:
        shown = []
        for who, port in (("a", 18272), ("b", 17176)):
            own = await self.dialog(who).request(own_media(port), from_phone=False)
            shown.append(await self.dialog(who).respond(own, 200, self.sdp(who)))
        assert shown[0] is not None and shown[1] is not None
        self.inside = (shown[0], shown[1])

    async def hold_inside(self) -> None:
        who = self.rng.choice("ab")
        hold = await self.dialog(who).request(self.sdp(who, "sendonly"), from_phone=True)
        assert hold.refusal is None and hold.out is not None
        await self.dialog(who).respond(hold, 200, own_media(18272 if who == "a" else 17176, "recvonly"))
        assert self.inside is not None
        self.inside = (hold.out, self.inside[1]) if who == "a" else (self.inside[0], hold.out)

    async def step_out(self) -> None:
        assert self.inside is not None
        toward_a, toward_b = self.inside
        self.inside = None
        order = [("b", toward_a), ("a", toward_b)]
        self.rng.shuffle(order)
        done: list[Transaction] = []

        async def leave(who: str, sdp: bytes) -> None:
            moved = await self.dialog(who).request(self.stage.fs(sdp, "sendrecv"), from_phone=False)
            assert moved.refusal is None
            await self.dialog(who).respond(moved, 200, self.sdp(who))
            done.append(moved)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave, *order[0])
            for _ in range(self.rng.randrange(4)):
                await trio.lowlevel.checkpoint()
            nursery.start_soon(leave, *order[1])
        assert len(done) == 2


@pytest.mark.parametrize("seed", range(16))
async def test_random_life(stage: Stage, seed: int) -> None:
    rng = random.Random(seed)
    secure = seed % 3 == 2
    call = await establish(stage, crypto(alice()) if secure else alice(), bob())
    life = Life(stage, call, rng, secure=secure)
    for _ in range(25):
        await life.step()
    if life.inside:
        await life.step_out()
    await call.reinvite("a", life.sdp("a"), life.sdp("b"))
    await settle()
    one, two = call.session.phones
    assert one.linked is two and two.linked is one
    assert call.session.holding == [] and call.session.offers == {}
    stage.check_shown()
    await call.hang_up()
    assert stage.commands().count("delete") == 1
    stage.clean()
