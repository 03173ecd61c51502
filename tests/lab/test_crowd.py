"""A crowd against itself: the callers' INVITEs go straight to the callees, who talk, are re-INVITEd and hang up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from lab import crowd_sip, namespace, topology
from lab.crowd import Change, Crowd, End, Heard, open_crowd
from lab.topology import Network, Shape

pytestmark = pytest.mark.real
CALLEE = ("203.0.113.9", 5060)


@asynccontextmanager
async def running(calls: int, talking: list[int]) -> AsyncIterator[tuple[Network, Crowd]]:
    with trio.fail_after(20):
        async with topology.build(Shape()) as network:
            crowd = await trio.to_thread.run_sync(open_crowd, network, calls, talking)
            crowd.edge = CALLEE  # no edge: the callee is asked directly, and asks nothing itself
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, crowd.run)
                try:
                    yield network, crowd
                finally:
                    crowd.stop()
            crowd.close()


async def _until(crowd: Crowd, up: bool) -> None:
    with trio.fail_after(8):
        while any(end.up != up for side in crowd.ends for end in side):  # noqa: ASYNC110 - another thread's state
            await trio.sleep(0.01)


async def test_calls_talk_and_end() -> None:
    async with running(20, [3, 7]) as (_, crowd):
        crowd.call(range(20), 200)
        await _until(crowd, True)
        await trio.sleep(0.4)
        talking = [crowd.ends[side][number] for number in (3, 7) for side in (0, 1)]
        for end in talking:
            (heard,) = end.heard.values()
            assert heard.count > 10
            assert heard.last > heard.first
            assert end.strangers == 0
        assert sum(heard.count for heard in crowd.ends[0][4].heard.values()) <= 5
        assert all(0 < end.answered - end.invited < 2 for end in crowd.ends[0])
        assert crowd.nonsense == 0
        crowd.hang_up(200)
        await _until(crowd, False)
        assert [end.ended_by_peer for end in crowd.ends[1]] == [True] * 20
        assert not any(end.ended_by_peer for end in crowd.ends[0])


async def test_a_reinvite_is_answered_and_media_follows_it() -> None:
    async with running(2, [0]) as (network, crowd):
        crowd.call(range(2), 100)
        await _until(crowd, True)
        end = crowd.ends[1][0]
        moment = time.monotonic()
        raw = await trio.to_thread.run_sync(namespace.udp_socket, network.ns("carrier"), "203.0.113.77", 5060)
        with trio.socket.from_stdlib_socket(raw) as sock:
            via = b"SIP/2.0/UDP 203.0.113.77:5060;branch=z9hG4bKmove"
            offer = crowd_sip.describe(("203.0.113.77", 31_000), 9)
            fields = (b"sip:1000@203.0.113.9", via, [], end.remote, end.local, end.call_id)
            for _ in range(2):  # the repetition gets the same answer
                await sock.sendto(crowd_sip.request(b"INVITE", *fields, 5, b"<sip:e@e>", offer), CALLEE)
                reply = crowd_sip.Packet((await sock.recvfrom(4000))[0])
                assert (reply.status, reply.cseq) == (200, 5)
            assert end.changed_since(moment) is None
            await sock.sendto(crowd_sip.request(b"ACK", *fields, 5), CALLEE)
            while end.changed_since(moment) is None:  # noqa: ASYNC110 - another thread's state
                await trio.sleep(0.01)
        assert [change.cseq for change in end.changes] == [5]
        assert end.destination == ("203.0.113.77", 31_000)


def test_what_an_end_says_of_itself() -> None:
    end = End(3, 1)
    assert not end.up
    end.changes = [Change(1, 10.0, 10.1), Change(2, 20.0), Change(3, 21.0, 21.5)]
    assert end.changed_since(5.0) == 10.1
    assert end.changed_since(20.0) == 21.5
    assert end.changed_since(22.0) is None
    assert end.gap("old") is None
    end.heard = {"old": Heard(5, 1.0, 4.0)}
    assert end.gap("old") is None
    end.heard["new"] = Heard(5, 4.25, 6.0)
    assert end.gap("old") == 0.25
