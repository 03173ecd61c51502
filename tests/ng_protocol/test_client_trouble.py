"""The client against the fake node, in virtual time: loopback datagrams arrive inside ``send``, so the clock may
jump."""

from __future__ import annotations

import logging
import math
import random
import socket
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from ng_protocol import (
    ClientConfig,
    Delete,
    NgBadRequest,
    NgBusy,
    NgClosed,
    NgLostCall,
    NgRefused,
    NgTimeout,
    Offer,
    Ping,
    Pong,
    Query,
    open_client,
)
from tests.fake_rtpengine import fake_node
from tests.ng_protocol.helpers import OFFER, SDP, RawServer, expect

# -- refusals (ICMP) -------------------------------------------------------------------------------------------------


async def test_two_refusals_fail_all_waiters_quickly(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address, name="n1") as client:
        node.stop()
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(expect, client, NgRefused)
        assert trio.current_time() - started == pytest.approx(0.02)
        with pytest.raises(NgRefused, match="nothing listens on its ng port") as caught:
            await client.request(OFFER)
        assert trio.current_time() - started == pytest.approx(0.02), "known to be gone: refused at once"
        assert caught.value.try_another_node
        assert client.statistics().refused == 6


async def test_a_retransmission_just_after_the_first_refusal_does_not_delay_the_proof(
    autojump_clock: MockClock,
) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.pause()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, client, NgRefused)
            await trio.sleep(0.24)
            node.stop()
            started = trio.current_time()
            nursery.start_soon(expect, client, NgRefused)
        assert trio.current_time() - started == pytest.approx(0.02)


async def test_one_refusal_and_then_a_reply_is_no_refusal(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.stop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.request, Ping())
            await trio.sleep(0.01)
            node.start()
        assert client.statistics().refused == 0
        assert client.statistics().receive_errors == 1
        await trio.sleep(10)
        node.stop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.request, Ping())
            await trio.sleep(0.01)
            node.start()
        assert client.statistics().refused == 0, "the reply in between started the count anew"


async def test_a_node_that_comes_back_is_used_at_once(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.stop()
        await expect(client, NgRefused)
        node.start()
        started = trio.current_time()
        await client.request(Ping())
        assert trio.current_time() == started


async def test_a_submitted_command_is_refused_too(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.stop()
        results: list[Any] = []
        for number in range(10):
            client.submit(Delete(call_id=f"c{number}"), results.append)
        await trio.sleep(1)
        assert [type(result) for result in results] == [NgRefused] * 10


# -- fire and forget -------------------------------------------------------------------------------------------------


async def test_submit_reports_to_its_callback(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.drop_requests = 1
        await client.request(OFFER)
        results: list[Any] = []
        client.submit(Delete(call_id="c1", delete_delay=0), results.append)
        client.submit(Delete(call_id="c2", delete_delay=0))
        client.submit(Query(call_id="c1"), results.append)
        await trio.sleep(1)
        assert results[0].known
        assert type(results[1]) is NgLostCall
        assert (node.count("delete"), client.statistics().in_flight) == (2, 0)
        assert client.statistics().errors["lost call"] == 1


async def test_failures_of_submitted_commands_are_logged_in_one_line_a_second(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with fake_node() as node, open_client(node.address, name="n1") as client:
        node.pause()
        for number in range(5):
            client.submit(Delete(call_id=f"c{number}"))
        await trio.sleep(4)
        client.submit(Delete(call_id="c9"))
        await trio.sleep(4)
    lines = [record.getMessage() for record in caplog.records if record.name == "ng_protocol.client"]
    assert len(lines) == 2
    assert lines[0].startswith("delete of call c0 failed on rtpengine n1 (")
    assert lines[1].startswith("delete of call c9 failed") and lines[1].endswith("(and 4 more before it)")
    assert client.statistics().timeouts == 6


async def test_submitted_commands_are_bounded(autojump_clock: MockClock) -> None:
    config = ClientConfig(max_submitted=3)
    async with fake_node() as node, open_client(node.address, config=config) as client:
        node.pause()
        results: list[Any] = []
        for number in range(5):
            client.submit(Delete(call_id=f"c{number}"), results.append)
        assert [type(result) for result in results] == [NgBusy, NgBusy]
        assert client.statistics().in_flight == 3
        await trio.sleep(4)
        assert len(results) == 5
        client.submit(Delete(call_id="c9"), results.append)
        assert len(results) == 5, "there is room again"
        assert client.statistics().errors["busy"] == 2


async def test_a_failing_callback_is_logged_and_hurts_nobody(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("bug in the caller")

    async with fake_node() as node, open_client(node.address) as client:
        client.submit(Ping(), fail)
        await client.request(Ping())
        assert client.statistics().callback_errors == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_submit_on_a_closed_client_tells_the_callback(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        client.close()
        results: list[Any] = []
        client.submit(Ping(), results.append)
        assert [type(result) for result in results] == [NgClosed]
        assert client.statistics().errors["closed"] == 1


# -- sizes and addresses ---------------------------------------------------------------------------------------------


async def test_datagrams_near_64_kib_both_ways(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        big = SDP + b"".join(b"a=x-%d:%s\r\n" % (number, b"y" * 90) for number in range(605))
        assert len(big) > 60_000
        reply = await client.request(Offer(call_id="c1", from_tag="f", sdp=big))
        assert len(reply.sdp) > 60_000
        assert client.statistics().retransmitted == 0


async def test_a_request_too_big_for_udp_is_our_fault(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        with pytest.raises(NgBadRequest, match="bytes, too many for one UDP datagram"):
            await client.request(Offer(call_id="c1", from_tag="f", sdp=b"v" * 66_000))
        results: list[Any] = []
        client.submit(Offer(call_id="c1", from_tag="f", sdp=b"v" * 66_000), results.append)
        assert [type(result) for result in results] == [NgBadRequest]
        statistics = client.statistics()
        assert (statistics.in_flight, statistics.sent, statistics.errors["bad request"]) == (0, 0, 2)


async def test_ipv6(autojump_clock: MockClock) -> None:
    async with RawServer(socket.AF_INET6) as server, open_client(server.address) as client:
        assert server.address.startswith("[::1]:")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.request, Ping())
            datagram, peer = await server.receive()
            server.sock.sendto(datagram.split(b" ")[0] + b" d6:result4:ponge", peer)


async def test_a_host_name(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(f"localhost:{node.address.split(':')[1]}") as client:
        if client._sock is not None and client._sock.family == socket.AF_INET:
            await client.request(Ping())
        else:
            await expect(client, NgRefused)


# -- a terrible network ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
async def test_a_terrible_network(autojump_clock: MockClock, seed: int) -> None:
    """40 % loss each way, delays beyond the interval, garbage now and then: every command ends, none executes twice."""
    rng = random.Random(seed)
    async with fake_node() as node, open_client(node.address, config=ClientConfig(timeout=30)) as client:
        ended = 0

        async def trouble() -> None:
            while True:
                await trio.sleep(0.05)
                node.drop_requests = 1 if rng.random() < 0.4 else 0
                node.drop_replies = 1 if rng.random() < 0.4 else 0
                node.delay = rng.choice([0, 0, 0.01, 0.4])

        async def call(number: int) -> None:
            nonlocal ended
            await trio.sleep(rng.random())
            await client.request(Offer(call_id=f"c{number}", from_tag="f", sdp=SDP))
            await client.request(Delete(call_id=f"c{number}", delete_delay=0))
            ended += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trouble)
            async with trio.open_nursery() as calls:
                for number in range(40):
                    calls.start_soon(call, number)
            nursery.cancel_scope.cancel()
        assert ended == 40
        assert (node.count("offer"), node.count("delete"), len(node.calls)) == (40, 40, 0)
        assert client.statistics().in_flight == 0


async def test_whoever_watches_the_node_hears_of_life_and_of_refusals(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        refusals: list[bool] = []
        client.on_refusal = refusals.append
        assert client.heard_at == -math.inf
        await trio.sleep(1.0)
        await client.request(Ping())
        assert client.heard_at == trio.current_time() and refusals == []
        node.stop()
        with pytest.raises(NgRefused):
            await client.request(Ping())
        assert refusals[0] is False and refusals[-1] is True


async def test_a_late_reply_is_a_sign_of_life(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.delay = 0.3
        with pytest.raises(NgTimeout):
            await client.request(Ping(), timeout=0.1)
        assert client.heard_at == -math.inf
        await trio.sleep(1.0)
        assert client.heard_at == pytest.approx(0.3, abs=0.15)


async def test_a_probe_is_sent_once_and_fails_quietly(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        results: list[Any] = []
        node.pause()
        client.submit(Ping(), results.append, timeout=2.0, once=True)
        await trio.sleep(3.0)
        assert node.datagrams == 1 and isinstance(results[0], NgTimeout) and caplog.text == ""
        node.resume()
        client.submit(Ping(), results.append, timeout=2.0, once=True)
        await trio.sleep(0.01)
        assert results[1] == Pong()
        client.submit(Query(call_id="nobody's"), results.append, once=True)
        await trio.sleep(0.01)
        assert isinstance(results[2], NgLostCall) and caplog.text == ""


async def test_a_refused_probe_is_tried_a_second_time_at_once(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        results: list[Any] = []
        node.stop()
        client.submit(Ping(), results.append, timeout=2.0, once=True)
        await trio.sleep(0.025)
        assert isinstance(results[0], NgRefused)
