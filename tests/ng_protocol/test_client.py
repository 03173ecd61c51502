"""The client against the fake node, in virtual time: loopback datagrams arrive inside ``send``, so the clock may
jump."""

from __future__ import annotations

import os
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from ng_protocol import (
    Answer,
    Client,
    Delete,
    ListCalls,
    NgBadReply,
    NgBadRequest,
    NgClosed,
    NgError,
    NgLoadLimit,
    NgLostCall,
    NgTimeout,
    Offer,
    OfferReply,
    Ping,
    Pong,
    Query,
    QueryReply,
    open_client,
)
from tests.fake_rtpengine import fake_node
from tests.ng_protocol.helpers import OFFER, SDP, RawServer, cancel_when_blocked, open_nursery


async def test_a_call_with_typed_replies(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address, name="n1") as client:
        pong: Pong = await client.request(Ping())
        offered: OfferReply = await client.request(OFFER)
        assert b"c=IN IP4 127.0.0.1" in offered.sdp
        await client.request(Answer(call_id="c1", from_tag="f", to_tag="t", sdp=SDP))
        state: QueryReply = await client.request(Query(call_id="c1"))
        assert sorted(state.tags) == ["f", "t"]
        assert (await client.request(ListCalls())).calls == ("c1",)
        assert (await client.request(Delete(call_id="c1", delete_delay=0))).known
        assert pong == Pong()
        statistics = client.statistics()
        assert (statistics.sent, statistics.replies, statistics.retransmitted, statistics.in_flight) == (6, 6, 0, 0)
        assert sum(statistics.errors.values()) == 0
        assert statistics.rtt_ms is not None and statistics.rto_ms == 100.0


async def test_a_lost_request_is_repeated_under_the_same_cookie(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.drop_requests = 2
        started = trio.current_time()
        await client.request(OFFER)
        assert trio.current_time() - started == pytest.approx(0.25 + 0.5), "first_rto, then twice as long"
        assert (node.count("offer"), node.duplicates, node.datagrams) == (1, 0, 3)
        assert client.statistics().retransmitted == 2


async def test_a_lost_reply_does_not_execute_twice(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.drop_replies = 1
        await client.request(OFFER)
        assert (node.count("offer"), node.duplicates) == (1, 1)


async def test_first_interval_follows_the_measured_round_trip(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.delay = 0.15
        for _ in range(30):
            await client.request(Ping())
        statistics = client.statistics()
        assert statistics.retransmitted == 0
        assert statistics.rtt_ms == pytest.approx(150)
        assert 150 < statistics.rto_ms < 200


async def test_a_late_reply_is_a_duplicate_and_harmless(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.delay = 0.3
        await client.request(Ping())
        await trio.sleep(1)
        statistics = client.statistics()
        assert (statistics.retransmitted, statistics.replies, statistics.duplicate_replies) == (1, 1, 1)
        assert statistics.rtt_ms is None, "Karn: a repeated command measures nothing"
        assert statistics.rto_ms == 500.0, "and its interval stays"
        await client.request(Ping())
        assert client.statistics().retransmitted == 1


async def test_silence_ends_in_a_timeout_that_says_so(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address, name="n1") as client:
        node.pause()
        started = trio.current_time()
        with pytest.raises(
            NgTimeout, match=r"offer of call c1 failed on rtpengine n1 .*no reply within 3\.0 s"
        ) as info:
            await client.request(OFFER)
        assert trio.current_time() - started == pytest.approx(3)
        assert info.value.try_another_node
        assert (info.value.call_id, info.value.command) == ("c1", "offer")
        assert node.datagrams == 5, "at 0, 0.25, 0.75, 1.75, 2.75 s: doubling up to the ceiling"
        assert client.statistics().timeouts == 1
        node.resume()
        await client.request(OFFER)
        assert node.count("offer") == 1


async def test_a_command_may_have_its_own_deadline(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.pause()
        started = trio.current_time()
        with pytest.raises(NgTimeout):
            await client.request(Ping(), timeout=0.1)
        assert trio.current_time() - started == pytest.approx(0.1)
        assert node.datagrams == 1


async def test_many_commands_at_once(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        replies: dict[int, OfferReply] = {}

        async def call(number: int) -> None:
            replies[number] = await client.request(Offer(call_id=f"c{number}", from_tag="f", sdp=SDP))

        node.drop_requests = 50
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(call, number)
        assert len({reply.sdp for reply in replies.values()}) == 300, "each got the reply to its own offer"
        assert node.count("offer") == 300
        assert client.statistics().in_flight == 0


async def test_replies_in_the_other_order_reach_their_own_waiters(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        await client.request(OFFER)
        order: list[str] = []

        async def ask(delay: float, command: Any, name: str) -> None:
            node.delay = delay
            await client.request(command)
            order.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, 0.08, Query(call_id="c1"), "slow")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask, 0.01, Ping(), "fast")
        assert order == ["fast", "slow"]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("Ran out of ports", NgLoadLimit),
        ("Parallel session limit reached", NgLoadLimit),
        ("Unknown call-id", NgLostCall),
        ("Failed to parse SDP", NgBadRequest),
        ("Something nobody ever heard of", NgBadRequest),
    ],
)
async def test_error_replies(autojump_clock: MockClock, reason: str, kind: type[NgError]) -> None:
    async with fake_node() as node, open_client(node.address, name="n1") as client:
        node.fail_next("offer", reason)
        with pytest.raises(kind) as caught:
            await client.request(OFFER)
        assert type(caught.value) is kind
        assert caught.value.detail == reason
        assert client.statistics().errors[kind.kind] == 1


async def test_load_limit_reply(autojump_clock: MockClock) -> None:
    async with fake_node(max_sessions=0) as node, open_client(node.address) as client:
        with pytest.raises(NgLoadLimit, match="Parallel session limit reached"):
            await client.request(Offer(call_id="c1", from_tag="f", sdp=SDP, supports=["load limit"]))


@pytest.mark.parametrize(
    "garbage",
    [
        b"d1:a0:-5:",
        b"x",
        b"d",
        b"d6:result2:ok",
        b"d6:result2:oke",
        b"d6:result3:huhe",
        b"d6:resulti1ee",
        b"de",
        b"l2:oke",
        b"{}",
        b"d1:a" * 10000,
        b"\xff" * 60000,
    ],
)
async def test_garbage_is_a_bad_reply_for_its_waiter_only(autojump_clock: MockClock, garbage: bytes) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.garbage = [garbage]
        with pytest.raises(NgBadReply):
            await client.request(OFFER)
        await client.request(Ping())
        statistics = client.statistics()
        assert (statistics.errors["bad reply"], statistics.in_flight) == (1, 0)


async def test_error_without_a_reason_and_load_limit_without_a_message(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.garbage = [b"d6:result5:errore", b"d6:result10:load limite", b"d12:error-reasoni5e6:result5:errore"]
        with pytest.raises(NgBadRequest, match="no error-reason"):
            await client.request(OFFER)
        with pytest.raises(NgLoadLimit):
            await client.request(OFFER)
        with pytest.raises(NgBadRequest):
            await client.request(OFFER)


async def test_datagrams_without_a_cookie_of_ours_are_counted_and_dropped(autojump_clock: MockClock) -> None:
    async with RawServer() as server, open_client(server.address) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.request, Ping())
        datagram, peer = await server.receive()
        cookie = datagram.split(b" ")[0]
        for junk in (
            b"",
            b"x",
            b" ",
            b"nobody d6:result4:ponge",
            cookie,
            cookie + b" ",
            cookie + b"9 d6:result4:ponge",
        ):
            server.sock.sendto(junk, peer)
        server.sock.sendto(cookie + b" d6:result4:ponge", peer)
        server.sock.sendto(cookie + b" d6:result4:ponge", peer)
        await trio.testing.wait_all_tasks_blocked()
        statistics = client.statistics()
        assert (statistics.unknown_replies, statistics.duplicate_replies, statistics.replies) == (6, 2, 1)


async def test_cookies_never_repeat(autojump_clock: MockClock) -> None:
    cookies: list[bytes] = []
    async with RawServer() as server:
        for _ in range(3):
            async with open_client(server.address) as client:
                for _ in range(5):
                    client.submit(Ping())
                    datagram, _ = await server.receive()
                    cookies.append(datagram.split(b" ")[0])
    assert len(set(cookies)) == 15
    assert len({cookie.split(b"_")[0] for cookie in cookies}) == 3, "a random prefix per client"
    assert all(len(cookie) < 40 for cookie in cookies)


async def test_cancelling_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.delay = 0.05
        with trio.move_on_after(0.01) as scope:
            await client.request(OFFER)
        assert scope.cancelled_caught
        assert client.statistics().in_flight == 0
        await trio.sleep(5)
        statistics = client.statistics()
        assert (statistics.cancelled, statistics.duplicate_replies, statistics.retransmitted) == (1, 1, 0)
        node.delay = 0
        await client.request(Ping())


async def test_a_cancelled_scope_sends_nothing(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.request(OFFER)
        await trio.testing.wait_all_tasks_blocked()
        assert node.datagrams == 0


async def test_closing_fails_all_waiters_and_later_commands(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.pause()
        errors: list[NgError] = []

        async def ask() -> None:
            with pytest.raises(NgClosed, match="removed by the operator") as caught:
                await client.request(OFFER)
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
            client.submit(Delete(call_id="c1"), errors.append)
            await trio.testing.wait_all_tasks_blocked()
            client.close("removed by the operator")
            client.close()
        assert len(errors) == 4
        with pytest.raises(NgClosed, match="removed by the operator"):
            await client.request(Ping())
        assert client.statistics().errors["closed"] == 5


async def test_cancelling_run_fails_the_waiters(autojump_clock: MockClock) -> None:
    async with fake_node() as node:
        client = Client(node.address)
        node.pause()
        async with trio.open_nursery() as outer:
            inner = await outer.start(open_nursery)
            await inner.start(client.run)
            with pytest.raises(NgClosed, match="the client was stopped"):
                outer.start_soon(cancel_when_blocked, inner)
                await client.request(Ping())


async def test_not_started() -> None:
    client = Client("127.0.0.1:2223")
    with pytest.raises(NgClosed, match="not started"):
        await client.request(Ping())


async def test_the_body_of_open_client_raises_its_own_error(autojump_clock: MockClock) -> None:
    async with fake_node() as node:
        with pytest.raises(ValueError, match="mine"):
            async with open_client(node.address):
                raise ValueError("mine")


def test_no_file_descriptor_is_left() -> None:
    async def main() -> None:
        async with fake_node() as node, open_client(node.address) as client:
            await client.request(Ping())

    trio.run(main)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        trio.run(main)
    assert len(os.listdir("/proc/self/fd")) == before
