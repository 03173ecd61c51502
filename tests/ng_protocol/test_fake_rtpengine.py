"""The knobs of the fake node. What it does as a daemon is in the contract tests."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from ng_protocol import (
    Answer,
    Delete,
    ListCalls,
    NgBadRequest,
    NgLoadLimit,
    NgLostCall,
    NgRefused,
    NgTimeout,
    Offer,
    Ping,
    PlayDTMF,
    PlayMedia,
    Query,
    Statistics,
    StopMedia,
    open_client,
)
from tests.fake_rtpengine import fake_node
from tests.ng_protocol.contract import Dialog, sdp, seen


async def test_requests_are_kept_in_order_as_text_with_the_sdp_as_bytes(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        await client.request(Offer(call_id="c1", from_tag="f", sdp=sdp(), flags=["trust-address"]))
        await client.request(Answer(call_id="c1", from_tag="f", to_tag="t", sdp=sdp(5000)))
        await client.request(Ping())
        assert [request["command"] for request in node.requests] == ["offer", "answer", "ping"]
        assert node.requests[0] == {
            "command": "offer",
            "call-id": "c1",
            "from-tag": "f",
            "sdp": sdp(),
            "flags": ["trust-address"],
        }
        assert (node.count("offer"), node.count("delete"), len(node.of("answer"))) == (1, 0, 1)
        assert [party.tag for party in node.calls["c1"].parties] == ["f", "t"]


async def test_restart_forgets_everything(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        await client.request(Offer(call_id="c1", from_tag="f", sdp=sdp()))
        await trio.sleep(100)
        assert (await client.request(Statistics())).uptime == 100
        node.restart()
        statistics = await client.request(Statistics())
        assert (statistics.uptime, statistics.current.sessions_own, statistics.commands("offer")) == (0, 0, 0)
        with pytest.raises(NgLostCall):
            await client.request(Query(call_id="c1"))
        assert node.count("offer") == 1, "what the test counts survives"


async def test_stop_start_pause_resume(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        address = node.address
        node.stop()
        with pytest.raises(NgRefused):
            await client.request(Ping())
        node.start()
        assert node.address == address
        await client.request(Ping())
        node.pause()
        with pytest.raises(NgTimeout):
            await client.request(Ping())
        node.resume()
        await client.request(Ping())


async def test_fail_next(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        node.fail_next("offer", "Ran out of ports")
        await client.request(Ping())
        with pytest.raises(NgLoadLimit):
            await client.request(Offer(call_id="c1", from_tag="f", sdp=sdp()))
        assert not node.calls
        await client.request(Offer(call_id="c1", from_tag="f", sdp=sdp()))


async def test_packets_of_a_party(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        dialog = Dialog(client, "c1")
        await dialog.establish()
        node.media("c1", "f", packets=50, learned=("198.51.100.7", 6000))
        stream = await dialog.stream("f")
        assert (stream.received.packets, str(stream.endpoint), stream.learned) == (50, "198.51.100.7:6000", True)
        assert str(stream.advertised_endpoint) == "192.0.2.1:4000"
        assert not (await dialog.stream("t")).learned


async def test_playing_works_when_a_test_wants_it_to(autojump_clock: MockClock) -> None:
    async with fake_node() as node, open_client(node.address) as client:
        await Dialog(client, "c1").establish()
        node.media_files = {"/music.wav"}
        node.media_flows = True
        assert (await client.request(PlayMedia(call_id="c1", from_tag="f", file="/music.wav"))).duration == 1000
        await client.request(StopMedia(call_id="c1", from_tag="f"))
        with pytest.raises(NgBadRequest):
            await client.request(StopMedia(call_id="c1", from_tag="f"))
        await client.request(PlayDTMF(call_id="c1", from_tag="f", code="1"))


async def test_two_nodes_are_told_apart_by_their_addresses(autojump_clock: MockClock) -> None:
    two = {"pub": "203.0.113.2", "lan": "10.0.0.2"}
    async with fake_node() as one, fake_node(interfaces=two) as other:
        addresses = []
        for node in (one, other):
            async with open_client(node.address) as client:
                reply = await client.request(Offer(call_id="c1", from_tag="f", sdp=sdp(), direction=["pub", "lan"]))
                addresses.append(seen(reply.sdp).address)
        assert addresses == ["127.0.0.2", "10.0.0.2"]
        assert one.count("offer") == other.count("offer") == 1


async def test_a_deleted_call_goes_when_its_delay_is_over(autojump_clock: MockClock) -> None:
    async with fake_node(delete_delay=30) as node, open_client(node.address) as client:
        dialog = Dialog(client, "c1")
        await dialog.establish()
        await client.request(Delete(call_id="c1"))
        assert (await client.request(ListCalls())).calls == ("c1",)
        await trio.sleep(29)
        assert (await client.request(ListCalls())).calls == ("c1",)
        await trio.sleep(1)
        assert (await client.request(ListCalls())).calls == ()
        assert (await client.request(Statistics())).ports_used == 0


async def test_errors_of_the_body_come_out_as_they_are(autojump_clock: MockClock) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with fake_node():
            raise ValueError("mine")
