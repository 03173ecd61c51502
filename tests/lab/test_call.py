"""Two phones of the lab calling each other directly, without edge or B2BUA: what one shows, the other must see and
hear."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from lab import topology
from lab.call import IncomingCall, OutgoingCall
from lab.topology import Shape
from lab.ua import Phone, open_phone

pytestmark = pytest.mark.real
A_TONE, B_TONE, FORK_TONE = 440, 620, 880
TALK = 0.4


@asynccontextmanager
async def phones() -> AsyncIterator[tuple[Phone, Phone]]:
    async with (
        topology.build(Shape()) as network,
        open_phone(network, "caller", "2000", [A_TONE]) as a,
        open_phone(network, "callee", "1000", [B_TONE, FORK_TONE]) as b,
    ):
        a.proxy, b.proxy = b.sip.address, a.sip.address
        with trio.fail_after(15):
            yield a, b


async def ringing(a: Phone, b: Phone, *, late_offer: bool = False) -> tuple[OutgoingCall, IncomingCall]:
    call = await a.call("1000", late_offer=late_offer)
    incoming = await b.next_call()
    assert incoming is not None
    incoming.ring()
    await call.ringing.wait()
    return call, incoming


async def talking(call: OutgoingCall, incoming: IncomingCall) -> None:
    incoming.answer()
    assert await call.outcome() == 200
    await incoming.acked.wait()


async def hears(call: OutgoingCall | IncomingCall, tone: int) -> float:
    since = trio.current_time() + 0.05
    await trio.sleep_until(since + TALK)
    return call.hearing.seconds(tone, since)


@pytest.mark.parametrize("late_offer", [False, True])
async def test_call_is_heard_both_ways_and_ends(late_offer: bool) -> None:
    async with phones() as (a, b):
        call, incoming = await ringing(a, b, late_offer=late_offer)
        assert bool(incoming.invite.message.sdp) is not late_offer
        await talking(call, incoming)
        assert await hears(call, B_TONE) > TALK - 0.1
        assert incoming.hearing.seconds(A_TONE) > TALK - 0.1
        assert call.hearing.seconds(A_TONE) == 0
        assert call.hearing.sources() == {incoming.port.address}
        assert await incoming.bye() == 200
        await call.ended.wait()
        assert (call.ended_by, incoming.ended_by) == ("BYE from the peer", "own BYE")


async def test_hold_silences_one_direction_and_unhold_brings_it_back() -> None:
    async with phones() as (a, b):
        call, incoming = await ringing(a, b)
        await talking(call, incoming)
        assert await call.hold() == 200
        assert await hears(call, B_TONE) == 0
        assert incoming.hearing.seconds(A_TONE, trio.current_time() - TALK) > TALK - 0.1
        assert await incoming.hold() == 200
        assert await hears(incoming, A_TONE) == 0
        assert await call.unhold() == 200
        assert await hears(call, B_TONE) > TALK - 0.1
        assert await incoming.unhold() == 200
        assert await hears(incoming, A_TONE) > TALK - 0.1
        assert {session for session, _ in call.origins} == {str(1001)}
        versions = [version for _, version in call.origins]
        assert versions == sorted(versions)
        assert versions[-1] > 1


async def test_a_refused_hold_changes_nothing() -> None:
    async with phones() as (a, b):
        call, incoming = await ringing(a, b)
        await talking(call, incoming)
        incoming.refuse_next = 488
        assert await call.hold() == 488
        assert not call.holding
        assert await hears(call, B_TONE) > TALK - 0.1
        assert await hears(incoming, A_TONE) > TALK - 0.1


async def test_one_that_always_refuses() -> None:
    async with phones() as (a, b):
        call, incoming = await ringing(a, b)
        await talking(call, incoming)
        incoming.refuse_always, incoming.refuse_next = 488, 500
        assert [await call.hold() for _ in range(3)] == [500, 488, 488]
        assert len(incoming.refused) == 3


async def test_a_crossing_reinvite_is_refused_with_491() -> None:
    async with phones() as (a, b):
        call, incoming = await ringing(a, b)
        await talking(call, incoming)
        statuses: list[int] = []

        async def hold(end: OutgoingCall | IncomingCall) -> None:
            statuses.append(await end.hold())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, call)
            nursery.start_soon(hold, incoming)
        assert statuses == [491, 491]
        assert await call.hold() == 200


async def test_why_the_peer_hung_up() -> None:
    async with phones() as (a, b):
        call, incoming = await ringing(a, b)
        await talking(call, incoming)
        assert incoming.dialog is not None
        bye = incoming.dialog.request("BYE", headers=[("Reason", 'SIP;cause=503;text="no media"')])
        await b.sip.ask(bye, incoming.dialog.destination)
        assert call.bye_reason == 'SIP;cause=503;text="no media"'


async def test_hold_by_update() -> None:
    async with phones() as (a, b):
        call, incoming = await ringing(a, b)
        await talking(call, incoming)
        assert await call.hold("UPDATE") == 200
        assert incoming.requests == ["ACK", "UPDATE"]
        assert await hears(call, B_TONE) == 0
        assert await call.unhold("UPDATE") == 200
        assert await hears(call, B_TONE) > TALK - 0.1


async def test_early_media_then_another_branch_answers() -> None:
    async with phones() as (a, b):
        call, loser = await ringing(a, b)
        winner = await loser.fork()
        loser.progress()
        await call.early.wait()
        assert await hears(call, B_TONE) > TALK - 0.1
        winner.answer()
        assert await call.outcome() == 200
        loser.finish("lost")
        await winner.acked.wait()
        assert await hears(call, FORK_TONE) > TALK - 0.1
        assert {response.to.tag for response in call.provisional if response.sdp} == {loser.tag}
        assert call.final is not None
        assert call.final.to.tag == winner.tag != loser.tag


async def test_cancel() -> None:
    async with phones() as (a, b):
        call, incoming = await ringing(a, b)
        assert await call.cancel() == 200
        assert await call.outcome() == 487
        await incoming.ended.wait()
        assert incoming.ended_by == "CANCEL"


async def test_busy() -> None:
    async with phones() as (a, b):
        call = await a.call("1000")
        incoming = await b.next_call()
        assert incoming is not None
        incoming.reject(486)
        assert await call.outcome() == 486
